//! A backend for tests of the memory map: a small window of real memory, and a record of what it was told that checks
//! the contract as it goes.

use std::sync::Mutex;

use endo_core::{
    Against, BackendConfig, BackendError, CodeSource, Confinement, DomainId, Exit, GuestAddr, GuestRange,
    HostAddr, HostRange, IsolationBackend, PAGE_SIZE, Properties, Rights, SignalRoute, ThreadState,
    Unavailable,
};

use super::MemoryMap;

/// Bytes of the window.
pub(crate) const WINDOW: u64 = 4 << 20;

/// What the backend knows of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Page {
    /// Assigned with these rights.
    pub(crate) rights: Option<Rights>,
    /// Admitted to run.
    pub(crate) is_code: bool,
}

/// Keeps a record, and memory.
#[derive(Debug)]
pub(crate) struct RecordingBackend {
    base: usize,
    pages: Mutex<Vec<Page>>,
}

impl RecordingBackend {
    /// A window that is reserved, as the backends' are.
    pub(crate) fn create() -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses a place where nothing is.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), WINDOW as usize, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let pages = vec![Page::default(); (WINDOW / PAGE_SIZE) as usize];
        RecordingBackend { base: base as usize, pages: Mutex::new(pages) }
    }

    /// The window and an empty memory map for it.
    pub(crate) fn with_map() -> (Self, MemoryMap) {
        (Self::create(), MemoryMap::new(GuestRange::new(GuestAddr(0), WINDOW).unwrap()))
    }

    /// What it knows of the page at `addr`.
    pub(crate) fn page(&self, addr: GuestAddr) -> Page {
        self.pages.lock().unwrap()[(addr.0 / PAGE_SIZE) as usize]
    }

    /// The kernel's protection of every page of the window.
    pub(crate) fn host_rights(&self) -> Vec<Rights> {
        let mut rights = vec![Rights::empty(); (WINDOW / PAGE_SIZE) as usize];
        for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
            let (bounds, rest) = line.split_once(' ').unwrap();
            let (start, end) = bounds.split_once('-').unwrap();
            let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
            let mut of_line = Rights::empty();
            for (letter, right) in [('r', Rights::READ), ('w', Rights::WRITE), ('x', Rights::EXECUTE)] {
                of_line.set(right, rest[..3].contains(letter));
            }
            let end = hex(end).min(self.base + WINDOW as usize);
            for page in (hex(start).max(self.base)..end).step_by(PAGE_SIZE as usize) {
                rights[(page - self.base) / PAGE_SIZE as usize] = of_line;
            }
        }
        rights
    }

    /// Stores a byte, if the page is writable.
    pub(crate) fn poke(&self, addr: GuestAddr, value: u8) {
        // SAFETY: the address is in the window, and the caller knows it to be writable.
        unsafe { ((self.base as u64 + addr.0) as *mut u8).write_volatile(value) };
    }

    /// Loads a byte, if the page is readable.
    pub(crate) fn peek(&self, addr: GuestAddr) -> u8 {
        // SAFETY: the address is in the window, and the caller knows it to be readable.
        unsafe { ((self.base as u64 + addr.0) as *const u8).read_volatile() }
    }

    fn each_page(&self, range: GuestRange, mut change: impl FnMut(&mut Page)) {
        let mut pages = self.pages.lock().unwrap();
        let (first, end) = (range.start().0 / PAGE_SIZE, range.end().0 / PAGE_SIZE);
        pages[first as usize..end as usize].iter_mut().for_each(&mut change);
    }
}

impl Drop for RecordingBackend {
    fn drop(&mut self) {
        // SAFETY: the window is this object's, and it goes away with it.
        unsafe { libc::munmap(self.base as *mut libc::c_void, WINDOW as usize) };
    }
}

// SAFETY: it runs no guest, so there is nothing to confine; `host_range` is its own reservation.
unsafe impl IsolationBackend for RecordingBackend {
    const NAME: &'static str = "recording";

    type Thread = ThreadState;

    fn probe() -> Result<Properties, Unavailable> {
        Ok(Properties {
            confinement: Confinement::empty(),
            against: Against::Nobody,
            max_domains: 1,
            address_space: WINDOW,
            caveats: Vec::new(),
        })
    }

    fn new(_config: BackendConfig) -> Result<Self, BackendError> {
        Ok(Self::create())
    }

    fn properties(&self) -> Properties {
        Self::probe().unwrap()
    }

    fn window(&self, _domain: DomainId) -> Result<GuestRange, BackendError> {
        Ok(GuestRange::new(GuestAddr(0), WINDOW).unwrap())
    }

    fn host_range(&self, domain: DomainId, range: GuestRange) -> Option<HostRange> {
        let is_inside = self.window(domain).unwrap().encloses(range);
        let start = HostAddr(self.base + range.start().0 as usize);
        is_inside.then_some(HostRange { start, length: range.len() as usize })
    }

    fn page_rights(&self, rights: Rights) -> Rights {
        rights - Rights::EXECUTE
    }

    fn create_domain(&self) -> Result<DomainId, BackendError> {
        unreachable!("the memory map creates no domain")
    }

    fn destroy_domain(&self, _domain: DomainId) -> Result<(), BackendError> {
        unreachable!("the memory map destroys no domain")
    }

    fn assign(&self, _domain: DomainId, range: GuestRange, rights: Rights) -> Result<(), BackendError> {
        let host = self.host_rights();
        let pages = range.start().0 / PAGE_SIZE..range.end().0 / PAGE_SIZE;
        for page in pages {
            let real = host[page as usize];
            assert!(real.contains(self.page_rights(rights)), "page {page} has {real:?}, recorded {rights:?}");
        }
        self.each_page(range, |page| page.rights = Some(rights));
        Ok(())
    }

    fn share(
        &self,
        _from: DomainId,
        _range: GuestRange,
        _to: DomainId,
        _rights: Rights,
    ) -> Result<(), BackendError> {
        unreachable!("the memory map shares nothing")
    }

    fn revoke(&self, _domain: DomainId, range: GuestRange) -> Result<(), BackendError> {
        self.each_page(range, |page| {
            assert!(!page.is_code, "code is retired before its pages are revoked");
            page.rights = None;
        });
        Ok(())
    }

    fn admit_code(
        &self,
        _domain: DomainId,
        range: GuestRange,
        _source: CodeSource,
    ) -> Result<(), BackendError> {
        self.each_page(range, |page| {
            assert!(page.rights.is_some_and(|rights| rights.contains(Rights::EXECUTE | Rights::READ)));
            page.is_code = true;
        });
        Ok(())
    }

    fn retire_code(&self, _domain: DomainId, range: GuestRange) {
        self.each_page(range, |page| page.is_code = false);
    }

    fn before_write(&self, _domain: DomainId, _range: GuestRange) {}

    fn create_thread(&self, _domain: DomainId, state: ThreadState) -> Result<ThreadState, BackendError> {
        Ok(state)
    }

    fn state<'a>(&self, thread: &'a ThreadState) -> &'a ThreadState {
        thread
    }

    fn state_mut<'a>(&self, thread: &'a mut ThreadState) -> &'a mut ThreadState {
        thread
    }

    fn run(&self, _thread: &mut ThreadState) -> Exit {
        unreachable!("the memory map runs nothing")
    }

    unsafe fn on_signal(
        &self,
        _synchronous: bool,
        _info: &mut libc::siginfo_t,
        _context: &mut libc::ucontext_t,
    ) -> SignalRoute {
        SignalRoute::Outside
    }

    fn after_fork_in_child(&self) -> Result<(), BackendError> {
        Ok(())
    }
}
