//! The translator: guest instructions in, a fragment of confined code out.
//!
//! A fragment covers guest code in ascending address order: it follows fall-through, past calls to their return points,
//! and past jumps to the next branch target it has seen itself. At every guest instruction boundary the machine state
//! is exactly the guest's, so a fragment can be entered at each of them. What is emitted for an instruction is decided by
//! its [`classify::Class`]; the lowerings are in [`plain`], [`stack`] and [`control`].
//!
//! The translator is not trusted: [`crate::verify`] judges its output.

mod calls;
pub mod classify;
mod control;
pub mod emit;
mod encoding;
pub mod linkage;
mod operand;
mod plain;
mod restore;
pub mod segment;
mod stack;
mod xrstor;

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use self::calls::Thunk;
use self::classify::{Class, classify};
use self::emit::Emitter;
use crate::cache::Gate;
use crate::returns::Returns;

/// Longest fragment, in guest instructions.
pub const MAX_INSTRUCTIONS: usize = 200;
/// Farthest a fragment reaches from its start, in guest bytes.
pub const MAX_SPAN: u32 = 1536;
/// Upper bound of what one fragment emits, in bytes: each instruction's longest sequence and exit stub.
pub const MAX_EMITTED: usize = MAX_INSTRUCTIONS * 96 + 256;

/// Addresses and constants that emitted code refers to.
#[derive(Clone, Copy, Debug)]
pub struct Constants {
    /// The gate for unlinked branches.
    pub link: u64,
    /// The gate for emulated instructions.
    pub special: u64,
    /// The gate for system calls.
    pub syscall: u64,
}

/// Where one guest instruction's code begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapEntry {
    /// Guest bytes from the fragment's start.
    pub guest: u16,
    /// Emitted bytes from the fragment's start.
    pub code: u16,
}

/// A direct branch out of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExitSite {
    /// Offset of its rel32 field.
    pub site: u32,
    /// Guest address it leads to.
    pub target: u32,
    /// Offset of its stub, if it has one: it is then not linked yet.
    pub stub: Option<u32>,
}

/// What the translator asks while it works.
pub trait Environment {
    /// The running address of an already translated guest instruction, if it can be entered.
    fn lookup(&self, guest: u32) -> Option<u64>;
    /// Whether a guest instruction that starts here has been translated (a cheap hint).
    fn is_translated(&self, guest: u32) -> bool;
    /// The number that the fragment's next unlinked exit gets.
    fn next_exit(&self) -> u32;
    /// Copies guest memory and says how many bytes could be copied.
    fn read(&self, guest: u32, to: &mut [u8]) -> usize;
    /// Whether an indirect jump at this address may be left to the runtime until its target has settled.
    fn may_wait(&self, guest: u32) -> bool;
}

/// Nothing else has been translated, and no guest memory can be read: for who looks at fragments by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone {
    /// See [`Environment::next_exit`].
    pub next_exit: u32,
}

impl Environment for Alone {
    fn lookup(&self, _guest: u32) -> Option<u64> {
        None
    }

    fn is_translated(&self, _guest: u32) -> bool {
        false
    }

    fn next_exit(&self) -> u32 {
        self.next_exit
    }

    fn read(&self, _guest: u32, _to: &mut [u8]) -> usize {
        0
    }

    fn may_wait(&self, _guest: u32) -> bool {
        false
    }
}

/// Guest code to translate.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Guest address of the first byte of [`Translator::source_mut`].
    pub start: u32,
    /// At most this many instructions.
    pub limit: usize,
    /// Whether to begin with an indirect entry.
    pub indirect: bool,
    /// This many instructions are translated even if another fragment has them.
    pub overlap: usize,
}

/// The translator's working memory, reused from fragment to fragment; and its result.
#[derive(Debug)]
pub struct Translator {
    emitter: Emitter,
    constants: Constants,
    source: Vec<u8>,
    start: u32,
    map: Vec<MapEntry>,
    exits: Vec<ExitSite>,
    indirect_entries: Vec<(u32, u32)>,
    /// Offsets of the rel32 fields before the stubs that lead to a gate.
    gates: Vec<(u32, Gate)>,
    /// Branches to guest addresses that have not been reached yet: (rel32 field, target).
    forward: Vec<(u32, u32)>,
    /// How returns are carried out.
    returns: Returns,
    /// Calls whose thunks have not been emitted yet.
    thunks: Vec<Thunk>,
    info: InfoFactory,
    run: Vec<Instruction>,
    classes: Vec<Class>,
    instruction_count: usize,
    end: u32,
    body: u32,
}

/// iced's, which has no `Debug`.
struct InfoFactory(InstructionInfoFactory);

impl InfoFactory {
    fn info(&mut self, instruction: &Instruction) -> &iced_x86::InstructionInfo {
        self.0.info(instruction)
    }
}

impl core::fmt::Debug for InfoFactory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("InfoFactory")
    }
}

/// Whether the code after an instruction is reached from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flow {
    Continues,
    Ends,
}

impl Translator {
    /// `context` is the thread context's distance from the thread pointer.
    pub fn new(context: i32, constants: Constants) -> Self {
        Translator {
            emitter: Emitter::new(context),
            constants,
            source: Vec::new(),
            start: 0,
            map: Vec::new(),
            exits: Vec::new(),
            indirect_entries: Vec::new(),
            gates: Vec::new(),
            forward: Vec::new(),
            returns: Returns::default(),
            thunks: Vec::new(),
            info: InfoFactory(InstructionInfoFactory::new()),
            run: Vec::new(),
            classes: Vec::new(),
            instruction_count: 0,
            end: 0,
            body: 0,
        }
    }

    /// From now on returns are carried out like this. Nothing that was translated for another way may stay.
    pub fn set_returns(&mut self, returns: Returns) {
        self.returns = returns;
    }

    /// The guest's code from where the next translation starts: a private copy, taken once.
    pub fn source_mut(&mut self) -> &mut Vec<u8> {
        &mut self.source
    }

    /// The guest's code that was translated.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The emitted fragment.
    pub fn code(&self) -> &[u8] {
        self.emitter.code()
    }

    /// Where each guest instruction begins, ascending.
    pub fn map(&self) -> &[MapEntry] {
        &self.map
    }

    /// The fragment's direct branches to other code.
    pub fn exits(&self) -> &[ExitSite] {
        &self.exits
    }

    /// Guest addresses that indirect branches may enter at, with the offset of the entry.
    pub fn indirect_entries(&self) -> &[(u32, u32)] {
        &self.indirect_entries
    }

    /// Where the instructions lead to gates, exit stubs apart: offset of a rel32 field, gate.
    pub fn gates(&self) -> &[(u32, Gate)] {
        &self.gates
    }

    /// Guest address of the first instruction.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Guest instructions in the fragment.
    pub fn instruction_count(&self) -> usize {
        self.instruction_count
    }

    /// Guest address past the last translated byte.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Offset past the last instruction's code, where the exit stubs begin.
    pub fn body(&self) -> u32 {
        self.body
    }

    /// Whether the fragment holds the instruction at a guest address.
    pub fn covers(&self, guest: u32) -> bool {
        self.offset_of_guest(guest).is_some()
    }

    /// Translates a fragment that will run at `address`.
    pub fn translate(&mut self, source: Source, address: u64, environment: &impl Environment) {
        self.emitter.restart(address);
        self.start = source.start;
        self.map.clear();
        self.exits.clear();
        self.indirect_entries.clear();
        self.gates.clear();
        self.forward.clear();
        self.thunks.clear();
        self.instruction_count = 0;
        self.end = source.start;
        if source.start.is_multiple_of(emit::ALIGNMENT) {
            self.emitter.align(if source.indirect { self.entry_bytes() } else { 0 });
        }
        if source.indirect {
            self.indirect_entry(source.start);
        }
        let mut pc = source.start;
        while let Some(next) = self.straight_run(pc, source.limit, source.overlap, environment) {
            pc = next;
        }
        self.emit_thunks();
        self.body = self.emitter.offset();
        self.resolve_forward(environment);
        self.emit_stubs(environment);
    }

    /// Translates from `pc` to the next instruction that does not fall through, and picks where to go on.
    fn straight_run(
        &mut self,
        pc: u32,
        limit: usize,
        overlap: usize,
        environment: &impl Environment,
    ) -> Option<u32> {
        self.decode_run(pc, limit - self.instruction_count, overlap, environment);
        if pc != self.start && pc.is_multiple_of(emit::ALIGNMENT) {
            // Nothing falls through to here.
            self.emitter.align(0);
        }
        let run = core::mem::take(&mut self.run);
        let mut flow = Flow::Continues;
        let mut next = pc;
        for (index, instruction) in run.iter().enumerate() {
            let at = instruction.ip() as u32;
            next = instruction.next_ip() as u32;
            self.map.push(MapEntry { guest: (at - self.start) as u16, code: self.emitter.offset() as u16 });
            self.instruction_count += 1;
            self.end = self.end.max(next);
            flow = self.lower(instruction, self.classes[index], &run[index + 1..], environment);
            if flow == Flow::Continues && self.writes_r11(instruction) {
                self.emitter.spill(crate::context::SPILL_R11, emit::R11);
            }
        }
        self.run = run;
        if self.instruction_count == 0 {
            self.map.push(MapEntry { guest: 0, code: self.emitter.offset() as u16 });
            self.end = pc + 1;
            self.special(pc);
        } else if self.run.is_empty() {
            // Nothing leads here but branches, and they get an exit like any other.
            next = pc + 1;
        } else if flow == Flow::Continues {
            self.branch_out(next);
        }
        self.next_forward_target(next, limit, environment)
    }

    /// Fills `self.run` with instructions from `pc` up to one that does not fall through, or that is translated already.
    fn decode_run(&mut self, pc: u32, limit: usize, overlap: usize, environment: &impl Environment) {
        self.run.clear();
        self.classes.clear();
        let offset = (pc - self.start) as usize;
        let mut decoder = Decoder::with_ip(64, &self.source[offset..], u64::from(pc), DecoderOptions::NONE);
        while self.run.len() < limit && decoder.can_decode() {
            let at = decoder.ip() as u32;
            let first = at == self.start && self.instruction_count == 0;
            let repeats = self.instruction_count + self.run.len() < overlap;
            if !first && !repeats && environment.is_translated(at) {
                break;
            }
            self.run.push(Instruction::default());
            let instruction = self.run.last_mut().expect("just pushed");
            decoder.decode_out(instruction);
            if instruction.is_invalid() || instruction.next_ip() > 0xffff_0000 {
                self.run.pop();
                break;
            }
            let class = classify(instruction);
            self.classes.push(class);
            if ends_run(class) {
                break;
            }
        }
    }

    /// The nearest branch target of this fragment that lies ahead and is not translated yet.
    fn next_forward_target(&self, next: u32, limit: usize, environment: &impl Environment) -> Option<u32> {
        if self.instruction_count >= limit {
            return None;
        }
        let ahead = self.forward.iter().map(|&(_, target)| target).filter(|&target| target >= next);
        let nearest = ahead.min()?;
        let inside = ((nearest - self.start) as usize) < self.source.len();
        (inside && !environment.is_translated(nearest)).then_some(nearest)
    }

    fn lower(
        &mut self,
        instruction: &Instruction,
        class: Class,
        following: &[Instruction],
        environment: &impl Environment,
    ) -> Flow {
        match class {
            Class::Nothing => self.nothing(instruction),
            Class::Plain => self.plain(instruction, following),
            Class::Address => self.address(instruction, following),
            Class::Stack => self.stack(instruction),
            Class::Leave => self.leave(instruction),
            Class::String => self.string(instruction),
            Class::Jump => self.jump(instruction.near_branch_target() as u32),
            Class::ConditionalJump => self.conditional_jump(instruction),
            Class::CounterJump => self.counter_jump(instruction),
            Class::IndirectJump => self.indirect_jump(instruction, environment),
            Class::Call => self.call(instruction),
            Class::IndirectCall => self.indirect_call(instruction),
            Class::Return => self.return_(instruction),
            Class::Syscall => self.syscall(instruction),
            Class::RestoreState => self.restore_state(instruction),
            Class::Special => self.special(instruction.ip() as u32),
        }
    }

    /// A `nop` that aligns what follows it is emitted as one that does so; others are dropped.
    fn nothing(&mut self, instruction: &Instruction) -> Flow {
        if instruction.mnemonic() == Mnemonic::Nop
            && (instruction.next_ip() as u32).is_multiple_of(emit::ALIGNMENT)
        {
            self.emitter.align(0);
        }
        Flow::Continues
    }

    /// Whether r11 may be another one after an instruction: its copy in the context is then renewed.
    fn writes_r11(&mut self, instruction: &Instruction) -> bool {
        let names_r11 = (0..instruction.op_count()).any(|operand| {
            instruction.op_kind(operand) == OpKind::Register
                && instruction.op_register(operand).full_register() == Register::R11
        });
        // Asked in full only of the few instructions that name it.
        names_r11
            && self.info.info(instruction).used_registers().iter().any(|used| {
                let writes = !matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead);
                used.register().full_register() == Register::R11 && writes
            })
    }

    /// The bytes of an instruction of this fragment.
    fn original(&self, instruction: &Instruction) -> ([u8; 16], usize) {
        let offset = (instruction.ip() as u32 - self.start) as usize;
        let length = instruction.len();
        let mut bytes = [0; 16];
        bytes[..length].copy_from_slice(&self.source[offset..offset + length]);
        (bytes, length)
    }

    /// Length of what [`Translator::indirect_entry`] emits.
    fn entry_bytes(&self) -> u32 {
        match self.returns {
            Returns::Dispatched => emit::RELOAD_BYTES,
            Returns::Predicted => emit::RETURN_BYTES + emit::RELOAD_BYTES,
        }
    }

    /// Marks this point as the indirect entry of a guest address: r11 is reloaded here.
    fn indirect_entry(&mut self, guest: u32) {
        if self.returns == Returns::Predicted {
            self.emitter.arrive_by_return();
        }
        self.indirect_entries.push((guest, self.emitter.offset()));
        self.emitter.reload(crate::context::SPILL_R11, emit::R11);
    }
}

fn ends_run(class: Class) -> bool {
    matches!(class, Class::Jump | Class::IndirectJump | Class::Return | Class::Special)
}
