//! Which guest pages can run, and how a page comes to it.
//!
//! No page is executable before a guest thread wants to run it. The fetch faults, and the page, with its neighbours of the same
//! kind, is replaced by memory of the process's own with the same bytes, closed to all stores, scanned at every offset
//! and across its borders with pages that can run already, and then opened to fetches. No page is ever writable and executable:
//! of one that has both rights, a store takes the one and a fetch the other.
//!
//! What a scan finds is dealt with in one of two ways. The XRSTOR of the C library's lazy resolver is recognised by what stands
//! before it, and becomes `ud2` in the page's private copy; when that faults, the monitor does what XRSTOR would have
//! done, but for the rights. Any other page with a hit never becomes executable: its instructions run one by one, see
//! [`step`](super::step). So do those of pages that others can change at any time.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use core::cell::UnsafeCell;
use endo_core::{CodeSource, GuestAddr, GuestRange, HostAddr, PAGE_SIZE, Rights, copy};

use super::keys;
use crate::book::{Admission, Book, Entry};
use crate::pkru::Key;
use crate::scan;

/// How many pages are looked at together.
const TOGETHER: u64 = 16;

/// What a fault of the guest calls for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The access is allowed now: try it again.
    Retry,
    /// The instruction is to be run by itself.
    Step,
    /// It is the guest's.
    Fault,
}

/// The main domain's pages.
#[derive(Default)]
pub(super) struct Code {
    books: Mutex<Books>,
    held_over_fork: UnsafeCell<Option<MutexGuard<'static, Books>>>,
}

// SAFETY: the cell is used by the thread that holds the lock alone, between `hold` and `release`.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

#[derive(Default)]
struct Books {
    book: Book,
    /// Start addresses of pages that are executable now.
    executable: BTreeSet<u64>,
    /// Of admitted pages that never will be.
    tainted: BTreeSet<u64>,
    /// Of pages that were replaced by memory of the process's own.
    detached: BTreeSet<u64>,
    /// Where XRSTOR was made `ud2`.
    patched: BTreeSet<u64>,
}

impl Code {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pages belong to the domain from now on.
    pub(super) fn assign(&self, range: GuestRange, rights: Rights) -> io::Result<()> {
        let mut books = self.books();
        books.retire(range)?;
        books.detached.retain(|&page| !range.contains(GuestAddr(page)));
        protect(range, data_rights(rights), keys::MAIN)?;
        books.book.insert(range, Entry { rights, admission: Admission::None });
        Ok(())
    }

    /// They do not any more.
    pub(super) fn revoke(&self, range: GuestRange) -> io::Result<()> {
        let mut books = self.books();
        books.retire(range)?;
        protect(range, Rights::empty(), Key::DEFAULT)?;
        books.book.remove(range);
        Ok(())
    }

    /// Code may run there.
    pub(super) fn admit(&self, range: GuestRange, source: CodeSource) {
        let admission = match source {
            CodeSource::Private | CodeSource::File(_) => Admission::Private,
            CodeSource::Shared => Admission::Shared,
        };
        self.books().book.admit(range, admission);
    }

    /// It may not.
    pub(super) fn retire(&self, range: GuestRange) -> io::Result<()> {
        self.books().retire(range)
    }

    /// Lets stores into pages that the guest may write.
    pub(super) fn open_for_stores(&self, range: GuestRange) {
        let mut books = self.books();
        for page in books.executable_in(range) {
            // A failure leaves the page as it is: the store faults.
            let _ = books.make_writable(page);
        }
    }

    /// What a fetch that faulted calls for.
    pub(super) fn on_fetch(&self, at: GuestAddr) -> Verdict {
        let mut books = self.books();
        let page = at.page_start().0;
        match books.way_to_run(page) {
            Verdict::Retry if books.executable.contains(&page) => Verdict::Retry,
            Verdict::Retry => match books.make_executable(page) {
                Ok(()) if books.tainted.contains(&page) => Verdict::Step,
                Ok(()) => Verdict::Retry,
                Err(_) => Verdict::Fault,
            },
            other => other,
        }
    }

    /// Likewise a store, by the instruction at `pc`.
    pub(super) fn on_store(&self, at: GuestAddr, pc: GuestAddr) -> Verdict {
        let mut books = self.books();
        let Some((_, entry)) = books.book.find(at) else { return Verdict::Fault };
        if !entry.rights.contains(Rights::WRITE) {
            return Verdict::Fault;
        }
        let page = at.page_start().0;
        if books.executable.contains(&page) && books.make_writable(page).is_err() {
            return Verdict::Fault;
        }
        // An instruction that stores into its own page needs both at once.
        let longest = GuestAddr(pc.0.saturating_add(super::step::LONGEST as u64));
        let is_own = pc.page_start().0 == page || longest.page_start().0 == page;
        if is_own { Verdict::Step } else { Verdict::Retry }
    }

    /// Likewise a load.
    pub(super) fn on_load(&self, at: GuestAddr) -> Verdict {
        match self.books().book.find(at) {
            // On x86-64 whoever may store or run may load.
            Some((_, entry)) if !entry.rights.is_empty() => Verdict::Retry,
            _ => Verdict::Fault,
        }
    }

    /// Whether the instruction there is known not to run in place.
    pub(super) fn is_stepped(&self, pc: GuestAddr) -> bool {
        let books = self.books();
        !books.tainted.is_empty() && books.tainted.contains(&pc.page_start().0)
    }

    /// Whether a guest may run code at an address at all.
    pub(super) fn may_run(&self, at: GuestAddr) -> bool {
        self.books().way_to_run(at.page_start().0) != Verdict::Fault
    }

    /// Whether an XRSTOR was made `ud2` there.
    pub(super) fn is_patched(&self, pc: GuestAddr) -> bool {
        self.books().patched.contains(&pc.0)
    }

    /// Holds the lock until [`Code::release`], which the same thread calls, in the parent and in the child.
    pub(super) fn hold(&self) {
        let books = self.books();
        // SAFETY: the guard belongs to this very value, and is gone before it is: a fork ends.
        let books =
            unsafe { core::mem::transmute::<MutexGuard<'_, Books>, MutexGuard<'static, Books>>(books) };
        // SAFETY: the calling thread holds the lock.
        unsafe { *self.held_over_fork.get() = Some(books) };
    }

    /// Undoes a [`Code::hold`].
    pub(super) fn release(&self) {
        // SAFETY: the calling thread holds the lock since `hold`.
        drop(unsafe { (*self.held_over_fork.get()).take() });
    }
}

impl Books {
    /// `Retry` stands for "in place".
    fn way_to_run(&self, page: u64) -> Verdict {
        match self.book.find(GuestAddr(page)) {
            Some((_, entry)) if !entry.rights.contains(Rights::EXECUTE) => Verdict::Fault,
            Some((_, Entry { admission: Admission::Private, .. })) if self.tainted.contains(&page) => {
                Verdict::Step
            }
            Some((_, Entry { admission: Admission::Private, .. })) => Verdict::Retry,
            Some((_, Entry { admission: Admission::Shared, .. })) => Verdict::Step,
            Some((_, Entry { admission: Admission::None, .. })) | None => Verdict::Fault,
        }
    }

    fn executable_in(&self, range: GuestRange) -> Vec<u64> {
        self.executable.range(range.start().page_start().0..range.end().0).copied().collect()
    }

    /// Takes the right to run away.
    fn retire(&mut self, range: GuestRange) -> io::Result<()> {
        self.book.admit(range, Admission::None);
        for run in runs(&self.executable_in(range)) {
            let rights = self.book.find(run.start()).map_or(Rights::empty(), |(_, entry)| entry.rights);
            protect(run, data_rights(rights), keys::MAIN)?;
            pages(run).for_each(|page| {
                self.executable.remove(&page);
            });
        }
        self.tainted.retain(|&page| !range.contains(GuestAddr(page)));
        self.restore_patched(range)
    }

    /// Puts back what was patched: the bytes may be read, run or written as they were.
    fn restore_patched(&mut self, range: GuestRange) -> io::Result<()> {
        let sites: Vec<u64> = self.patched.range(range.start().0..range.end().0).copied().collect();
        for site in sites {
            let page = page_range(GuestAddr(site).page_start().0);
            let rights = self.book.find(page.start()).map_or(Rights::empty(), |(_, entry)| entry.rights);
            protect(page, Rights::READ | Rights::WRITE, Key::DEFAULT)?;
            store(site + 1, XRSTOR_SECOND);
            protect(page, data_rights(rights), keys::MAIN)?;
            self.patched.remove(&site);
        }
        Ok(())
    }

    /// Lets stores into a page that is executable now, and fetches no more.
    fn make_writable(&mut self, page: u64) -> io::Result<()> {
        let Some((_, entry)) = self.book.find(GuestAddr(page)) else { return Ok(()) };
        if entry.rights.contains(Rights::WRITE) {
            protect(page_range(page), data_rights(entry.rights), keys::MAIN)?;
            self.executable.remove(&page);
        }
        Ok(())
    }

    /// Makes a page executable, or taints it; and the pages around it.
    fn make_executable(&mut self, page: u64) -> io::Result<()> {
        let Some(run) = self.run_around(page) else { return Err(io::ErrorKind::NotFound.into()) };
        let (_, entry) = self.book.find(run.start()).ok_or(io::ErrorKind::NotFound)?;
        // Nobody but the monitor reaches the pages from here on.
        let made = self.close_and_scan(run, entry);
        let tainted = match made {
            Ok(tainted) => tainted,
            Err(error) => {
                protect(run, data_rights(entry.rights), keys::MAIN)?;
                return Err(error);
            }
        };
        let (bad, good): (Vec<u64>, Vec<u64>) = pages(run).partition(|page| tainted.contains(page));
        for run in runs(&good) {
            protect(run, Rights::READ | Rights::EXECUTE, keys::MAIN)?;
            self.executable.extend(pages(run));
        }
        for run in runs(&bad) {
            protect(run, data_rights(entry.rights), keys::MAIN)?;
        }
        // A page that is written again may lose what it was tainted for.
        if !entry.rights.contains(Rights::WRITE) {
            self.tainted.extend(&bad);
        } else {
            self.tainted.extend(bad.iter().filter(|&&bad| bad == page));
        }
        Ok(())
    }

    /// Makes the pages private, patches what can be patched, and returns those that must not be executable. Afterwards nobody
    /// can store into them.
    fn close_and_scan(&mut self, run: GuestRange, entry: Entry) -> io::Result<BTreeSet<u64>> {
        if pages(run).any(|page| !self.detached.contains(&page)) {
            detach(run)?;
            self.detached.extend(pages(run));
        }
        loop {
            protect(run, Rights::READ, Key::DEFAULT)?;
            // A hit may begin before the run, or end after it, in pages that can run.
            let before = u64::from(self.executable.contains(&run.start().0.wrapping_sub(PAGE_SIZE)));
            let after = u64::from(self.executable.contains(&run.end().0));
            let overlap = scan::LENGTH as u64 - 1;
            let start = run.start().0 - before * overlap;
            let length = run.len() + (before + after) * overlap;
            // SAFETY: pages of the guest that are readable; nobody can store into those of the run, nor into pages that are
            // executable.
            let bytes = unsafe {
                core::slice::from_raw_parts(HostAddr(start as usize).as_ptr::<u8>(), length as usize)
            };
            let may_patch = !entry.rights.contains(Rights::WRITE);
            let is_inside =
                |hit: &scan::Hit| start + hit.at as u64 >= run.start().0 && hit.at + 1 < bytes.len();
            let (plain, other): (Vec<scan::Hit>, Vec<scan::Hit>) = scan::hits(bytes).partition(|hit| {
                may_patch
                    && hit.kind == scan::Kind::Xrstor
                    && is_inside(hit)
                    && start + hit.at as u64 + 1 < run.end().0
                    && scan::is_plain_xrstor(bytes, hit.at)
            });
            if plain.is_empty() {
                let touched = other.into_iter().flat_map(|hit| {
                    let first = (start + hit.at as u64) & !(PAGE_SIZE - 1);
                    let last = (start + (hit.at + scan::LENGTH - 1) as u64) & !(PAGE_SIZE - 1);
                    [first, last]
                });
                return Ok(touched.collect());
            }
            let sites: Vec<u64> = plain.iter().map(|hit| start + hit.at as u64).collect();
            protect(run, Rights::READ | Rights::WRITE, Key::DEFAULT)?;
            for site in sites {
                store(site + 1, scan::UD2_SECOND);
                self.patched.insert(site);
            }
        }
    }

    /// The pages around one that are to be treated with it: alone if the guest may write it.
    fn run_around(&self, page: u64) -> Option<GuestRange> {
        let (range, entry) = self.book.find(GuestAddr(page))?;
        if entry.rights.contains(Rights::WRITE) {
            return Some(page_range(page));
        }
        let is_alike = |&candidate: &u64| {
            range.contains(GuestAddr(candidate))
                && !self.executable.contains(&candidate)
                && !self.tainted.contains(&candidate)
        };
        let block = page & !(TOGETHER * PAGE_SIZE - 1);
        let below = (1..=TOGETHER).map(|n| page.wrapping_sub(n * PAGE_SIZE));
        let below =
            below.take_while(|candidate| (block..page).contains(candidate) && is_alike(candidate)).last();
        let block_end = block + TOGETHER * PAGE_SIZE;
        let above = (page..block_end).step_by(PAGE_SIZE as usize).take_while(is_alike).last()?;
        GuestRange::from_bounds(GuestAddr(below.unwrap_or(page)), GuestAddr(above + PAGE_SIZE))
    }
}

/// The second byte of XRSTOR.
const XRSTOR_SECOND: u8 = 0xae;

/// Makes pages the process's own, anonymous memory: whoever writes to their file, or cuts it off and makes it long again, changes
/// nothing in them. Nobody stores into them meanwhile.
fn detach(run: GuestRange) -> io::Result<()> {
    let mut bytes = vec![0_u8; run.len() as usize];
    let (here, there) = (HostAddr(bytes.as_mut_ptr() as usize), HostAddr(run.start().0 as usize));
    protect(run, Rights::READ, Key::DEFAULT)?;
    // SAFETY: the buffer is ours, and the run lies in the window.
    if unsafe { copy::copy(here, there, bytes.len()) } != 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (rights, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
    // SAFETY: what is replaced is the guest's, with the same bytes. The new pages have the monitor's key.
    if unsafe { libc::mmap(there.as_ptr(), bytes.len(), rights, flags, -1, 0) } == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    match unsafe { copy::copy(there, here, bytes.len()) } {
        0 => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Stores a byte into a page that only the monitor can reach.
fn store(at: u64, byte: u8) {
    let here = HostAddr((&raw const byte) as usize);
    // SAFETY: one byte of ours; the page is the guest's and writable for the monitor.
    unsafe { copy::copy(HostAddr(at as usize), here, 1) };
}

fn protect(range: GuestRange, rights: Rights, key: Key) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let bit = |right, bit| if rights.contains(right) { bit } else { libc::PROT_NONE };
    let rights = bit(Rights::READ, libc::PROT_READ)
        | bit(Rights::WRITE, libc::PROT_WRITE)
        | bit(Rights::EXECUTE, libc::PROT_EXEC);
    keys::protect(HostAddr(range.start().0 as usize), range.len() as usize, rights, key)
}

/// What stays of these rights while pages cannot run. On x86-64 whoever may store or run may load.
pub(super) fn data_rights(rights: Rights) -> Rights {
    let readable = if rights.is_empty() { Rights::empty() } else { Rights::READ };
    rights.difference(Rights::EXECUTE).union(readable)
}

fn pages(run: GuestRange) -> impl Iterator<Item = u64> {
    (run.start().0..run.end().0).step_by(PAGE_SIZE as usize)
}

fn page_range(page: u64) -> GuestRange {
    GuestRange::new(GuestAddr(page), PAGE_SIZE).expect("a page of the window")
}

/// Neighbouring pages put together.
fn runs(pages: &[u64]) -> Vec<GuestRange> {
    pages
        .chunk_by(|a, b| a + PAGE_SIZE == *b)
        .filter_map(|run| {
            GuestRange::from_bounds(GuestAddr(run[0]), GuestAddr(run[run.len() - 1] + PAGE_SIZE))
        })
        .collect()
}
