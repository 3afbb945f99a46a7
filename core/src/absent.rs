//! Backends that exist by name only.
//!
//! Where a platform or this version cannot have a backend, its name still means something: its probe says why not, and
//! code that is generic over backends compiles. [`Absent`] has no value, so that nothing of it can ever run.

use std::convert::Infallible;
use std::marker::PhantomData;

use crate::{
    BackendConfig, BackendError, CodeSource, DomainId, Exit, GuestRange, HostRange, IsolationBackend,
    Properties, Rights, SignalRoute, ThreadState, Unavailable,
};

/// The name of a backend, and why it is not there.
pub trait Absence: Send + Sync + 'static {
    /// The name that `--backend` takes.
    const NAME: &'static str;

    /// Every reason, at least one, each in a few lowercase words.
    fn reasons() -> Vec<String>;
}

/// A backend that cannot be created.
#[derive(Debug)]
pub struct Absent<A> {
    never: Infallible,
    reason: PhantomData<fn() -> A>,
}

// SAFETY: there is no value of the type, so that every promise about one holds; `probe` never succeeds.
unsafe impl<A: Absence> IsolationBackend for Absent<A> {
    const NAME: &'static str = A::NAME;

    type Thread = Infallible;

    fn probe() -> Result<Properties, Unavailable> {
        Err(Unavailable { reasons: A::reasons() })
    }

    fn new(_config: BackendConfig) -> Result<Self, BackendError> {
        Err(Unavailable { reasons: A::reasons() }.into())
    }

    fn properties(&self) -> Properties {
        match self.never {}
    }

    fn window(&self, _domain: DomainId) -> Result<GuestRange, BackendError> {
        match self.never {}
    }

    fn host_range(&self, _domain: DomainId, _range: GuestRange) -> Option<HostRange> {
        match self.never {}
    }

    fn page_rights(&self, _rights: Rights) -> Rights {
        match self.never {}
    }

    fn create_domain(&self) -> Result<DomainId, BackendError> {
        match self.never {}
    }

    fn destroy_domain(&self, _domain: DomainId) -> Result<(), BackendError> {
        match self.never {}
    }

    fn assign(&self, _domain: DomainId, _range: GuestRange, _rights: Rights) -> Result<(), BackendError> {
        match self.never {}
    }

    fn share(
        &self,
        _from: DomainId,
        _range: GuestRange,
        _to: DomainId,
        _rights: Rights,
    ) -> Result<(), BackendError> {
        match self.never {}
    }

    fn revoke(&self, _domain: DomainId, _range: GuestRange) -> Result<(), BackendError> {
        match self.never {}
    }

    fn admit_code(
        &self,
        _domain: DomainId,
        _range: GuestRange,
        _source: CodeSource,
    ) -> Result<(), BackendError> {
        match self.never {}
    }

    fn retire_code(&self, _domain: DomainId, _range: GuestRange) {
        match self.never {}
    }

    fn before_write(&self, _domain: DomainId, _range: GuestRange) {
        match self.never {}
    }

    fn create_thread(&self, _domain: DomainId, _state: ThreadState) -> Result<Infallible, BackendError> {
        match self.never {}
    }

    fn state<'a>(&self, _thread: &'a Infallible) -> &'a ThreadState {
        match self.never {}
    }

    fn state_mut<'a>(&self, _thread: &'a mut Infallible) -> &'a mut ThreadState {
        match self.never {}
    }

    fn run(&self, _thread: &mut Infallible) -> Exit {
        match self.never {}
    }

    unsafe fn on_signal(
        &self,
        _synchronous: bool,
        _info: &mut libc::siginfo_t,
        _context: &mut libc::ucontext_t,
    ) -> SignalRoute {
        match self.never {}
    }

    fn after_fork_in_child(&self) -> Result<(), BackendError> {
        match self.never {}
    }
}
