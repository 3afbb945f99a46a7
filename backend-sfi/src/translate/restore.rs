//! A fragment of another process, made to run in this one.

use super::{Environment, ExitSite, MAX_EMITTED, Translator};
use crate::cache::Gate;
use crate::store::record::Record;

impl Translator {
    /// Makes a stored fragment what [`Translator::translate`] would have made, to run at `address`. False if that cannot be:
    /// it is too long, names a gate that does not exist, or has a link that could not be patched.
    pub fn restore(&mut self, record: &Record<'_>, address: u64, environment: &impl Environment) -> bool {
        self.emitter.restart(address);
        self.emitter.bytes(record.body);
        self.start = record.start;
        self.end = record.end();
        self.body = self.emitter.offset();
        self.source.clear();
        self.source.extend_from_slice(record.source);
        self.map.clear();
        self.map.extend(record.map());
        self.instruction_count = self.map.len();
        self.indirect_entries.clear();
        self.indirect_entries.extend(record.entries());
        self.gates.clear();
        for (site, number) in record.gates() {
            let (gate, target) = match number {
                number if number == Gate::Special as u16 => (Gate::Special, self.constants.special),
                number if number == Gate::Syscall as u16 => (Gate::Syscall, self.constants.syscall),
                _ => return false,
            };
            self.emitter.set_target(site, target);
            self.gates.push((site, gate));
        }
        self.exits.clear();
        for (site, target) in record.exits() {
            if !self.emitter.is_aligned_link(site) {
                return false;
            }
            let inside = self.offset_of_guest(target).map(|offset| self.emitter.address_of(offset));
            let known = inside.or_else(|| environment.lookup(target));
            if let Some(address) = known {
                self.emitter.set_target(site, address);
            }
            self.exits.push(ExitSite { site, target, stub: if known.is_some() { None } else { Some(0) } });
        }
        self.emit_stubs(environment);
        self.emitter.offset() as usize <= MAX_EMITTED
    }
}
