//! The null backend where there is none: the same names, and no value of them.

use crate::{
    BackendConfig, BackendError, CodeSource, DomainId, Exit, GuestRange, HostRange, IsolationBackend,
    Properties, Rights, SignalRoute, ThreadState, Unavailable,
};

/// Cannot be created on this architecture.
#[derive(Debug)]
pub enum NullBackend {}

/// A guest thread of no backend.
#[derive(Debug)]
pub enum NullThread {}

// SAFETY: there is no value of the type, so that every promise about one holds.
unsafe impl IsolationBackend for NullBackend {
    const NAME: &'static str = "null";

    type Thread = NullThread;

    fn probe() -> Result<Properties, Unavailable> {
        Err(Unavailable::because(format!(
            "system calls cannot be captured here (syscall user dispatch is x86-64's, this machine is {})",
            std::env::consts::ARCH
        )))
    }

    fn new(_config: BackendConfig) -> Result<Self, BackendError> {
        Self::probe().map(|_| unreachable!("the probe never succeeds here")).map_err(BackendError::from)
    }

    fn properties(&self) -> Properties {
        match *self {}
    }

    fn window(&self, _domain: DomainId) -> Result<GuestRange, BackendError> {
        match *self {}
    }

    fn host_range(&self, _domain: DomainId, _range: GuestRange) -> Option<HostRange> {
        match *self {}
    }

    fn page_rights(&self, _rights: Rights) -> Rights {
        match *self {}
    }

    fn create_domain(&self) -> Result<DomainId, BackendError> {
        match *self {}
    }

    fn destroy_domain(&self, _domain: DomainId) -> Result<(), BackendError> {
        match *self {}
    }

    fn assign(&self, _domain: DomainId, _range: GuestRange, _rights: Rights) -> Result<(), BackendError> {
        match *self {}
    }

    fn share(
        &self,
        _from: DomainId,
        _range: GuestRange,
        _to: DomainId,
        _rights: Rights,
    ) -> Result<(), BackendError> {
        match *self {}
    }

    fn revoke(&self, _domain: DomainId, _range: GuestRange) -> Result<(), BackendError> {
        match *self {}
    }

    fn admit_code(
        &self,
        _domain: DomainId,
        _range: GuestRange,
        _source: CodeSource,
    ) -> Result<(), BackendError> {
        match *self {}
    }

    fn retire_code(&self, _domain: DomainId, _range: GuestRange) {
        match *self {}
    }

    fn before_write(&self, _domain: DomainId, _range: GuestRange) {
        match *self {}
    }

    fn create_thread(&self, _domain: DomainId, _state: ThreadState) -> Result<NullThread, BackendError> {
        match *self {}
    }

    fn state<'a>(&self, _thread: &'a NullThread) -> &'a ThreadState {
        match *self {}
    }

    fn state_mut<'a>(&self, _thread: &'a mut NullThread) -> &'a mut ThreadState {
        match *self {}
    }

    fn run(&self, _thread: &mut NullThread) -> Exit {
        match *self {}
    }

    unsafe fn on_signal(
        &self,
        _synchronous: bool,
        _info: &mut libc::siginfo_t,
        _context: &mut libc::ucontext_t,
    ) -> SignalRoute {
        match *self {}
    }

    fn after_fork_in_child(&self) -> Result<(), BackendError> {
        match *self {}
    }
}
