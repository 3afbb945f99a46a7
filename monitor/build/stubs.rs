//! The machine code of fast paths: one function for each plan, in an object file.
//!
//! A function is called with the six argument registers of a system call in the C calling convention. Those that check
//! have no branch: whatever is wrong with an argument sets a bit in the upper half of one word, and they return that half.
//! Those that answer return the call's result, or [`FALL_BACK`] wherever the usual path has more to say than 0.
//!
//! No function uses vector registers: Cranelift does not unless the values are vectors or floating-point numbers.

use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, ExtFuncData, ExternalName, FuncRef, Function, GlobalValue, GlobalValueData, InstBuilder,
    MemFlagsData, Signature, StackSlot, StackSlotData, StackSlotKind, UserExternalName, UserFuncName, Value,
    types,
};
use cranelift_codegen::isa::{self, CallConv};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataId, FuncId, Linkage, Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};

use super::plan::{self, Answered, Architecture, Check, Length, MOST_VALUES, Plan, Results, WINDOW_END};

/// The prefix of the functions' names; the call's name follows.
pub(crate) const PREFIX: &str = "endo_fast_";
/// The variable that they read: 64-bit words, in this order: the highest descriptor that is the guest's; the lowest
/// and the highest watched address; the addresses of the vDSO's functions, 0 for one that is not there.
pub(crate) const STATE: &str = "endo_fast_state";
/// The recoverable stores of two words, of one, and of its lower half: 0 if all was stored. The direction flag is the
/// guest's, so no string instruction will do.
const STORES: [&str; 3] = ["endo_raw_store_pair", "endo_raw_store_word", "endo_raw_store_half"];
/// `endo_core::FastEntry::FALL_BACK`.
const FALL_BACK: i64 = i64::MIN;

const LAST_DESCRIPTOR: i32 = 0;
const WATCHED_START: i32 = 8;
const WATCHED_LAST: i32 = 16;
const VDSO: i32 = 24;

/// The object file for an architecture.
pub(crate) fn object(architecture: Architecture) -> Vec<u8> {
    let mut stubs = Stubs::new(architecture);
    for plan in plan::all(architecture) {
        if !plan::ANSWERED.iter().any(|answered| answered.name == plan.name) {
            stubs.define(plan.name, |stub| stub.check(&plan));
        }
    }
    for (index, answered) in plan::ANSWERED.iter().enumerate() {
        stubs.define(answered.name, |stub| stub.answer(index, answered));
    }
    stubs.module.finish().emit().expect("an object file can hold them")
}

struct Stubs {
    module: ObjectModule,
    context: Context,
    builder_context: FunctionBuilderContext,
    state: DataId,
    /// Those of [`STORES`].
    stores: [FuncId; 3],
}

fn signature(parameters: usize, result: types::Type) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); parameters];
    signature.returns = vec![AbiParam::new(result)];
    signature
}

impl Stubs {
    fn new(architecture: Architecture) -> Stubs {
        let triple = match architecture {
            Architecture::X86_64 => "x86_64-unknown-linux-gnu",
            Architecture::Aarch64 => "aarch64-unknown-linux-gnu",
        };
        let mut flags = settings::builder();
        let settings = [("opt_level", "speed"), ("is_pic", "true"), ("unwind_info", "false")];
        for (name, value) in settings {
            flags.set(name, value).expect("a setting of Cranelift's");
        }
        let isa = isa::lookup_by_name(triple).expect("Cranelift was built for it");
        let isa = isa.finish(settings::Flags::new(flags)).expect("the settings fit together");
        let builder = ObjectBuilder::new(isa, "endo_fast", default_libcall_names());
        let mut module = ObjectModule::new(builder.expect("an ELF target"));
        let state = module.declare_data(STATE, Linkage::Import, true, false);
        let mut import = |name, signature| {
            module.declare_function(name, Linkage::Import, &signature).expect("declared once")
        };
        let stores = STORES.map(|name| import(name, signature(3, types::I64)));
        Stubs {
            state: state.expect("declared once"),
            stores,
            module,
            context: Context::new(),
            builder_context: FunctionBuilderContext::new(),
        }
    }

    fn define(&mut self, call: &str, body: impl FnOnce(&mut Stub<'_>)) {
        let taken = signature(6, types::I64);
        let name = format!("{PREFIX}{call}");
        let id = self.module.declare_function(&name, Linkage::Hidden, &taken).expect("one of a name");
        self.context.func = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), taken);
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder_context);
        let state = near_data(builder.func, self.state);
        let stores = self.stores.map(|store| near_function(builder.func, store, signature(3, types::I64)));
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let arguments = builder.block_params(entry).try_into().expect("six parameters");
        let mut stub = Stub { builder, arguments, state, stores };
        body(&mut stub);
        stub.builder.seal_all_blocks();
        stub.builder.finalize(self.module.isa().frontend_config());
        self.module
            .define_function(id, &mut self.context)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        self.module.clear_context(&mut self.context);
    }
}

/// The address of a variable that the linker puts into the same file: no indirection through a table.
fn near_data(function: &mut Function, id: DataId) -> GlobalValue {
    let name = UserExternalName::new(1, id.as_u32());
    let name = ExternalName::user(function.declare_imported_user_function(name));
    let symbol = GlobalValueData::Symbol { name, offset: 0.into(), colocated: true, tls: false };
    function.create_global_value(symbol)
}

/// A function that the linker puts into the same file.
fn near_function(function: &mut Function, id: FuncId, signature: Signature) -> FuncRef {
    let signature = function.import_signature(signature);
    let name = UserExternalName::new(0, id.as_u32());
    let name = ExternalName::user(function.declare_imported_user_function(name));
    function.import_function(ExtFuncData { name, signature, colocated: true, patchable: false })
}

/// A function under construction.
struct Stub<'a> {
    builder: FunctionBuilder<'a>,
    arguments: [Value; 6],
    state: GlobalValue,
    stores: [FuncRef; 3],
}

impl Stub<'_> {
    /// Returns 0 if all is as the plan wants it.
    fn check(&mut self, plan: &Plan) {
        let mut wrong: Option<Value> = None;
        for &check in &plan.checks {
            let more = self.what_is_wrong(check);
            wrong = Some(wrong.map_or(more, |wrong| self.builder.ins().bor(wrong, more)));
        }
        let result = match wrong {
            Some(wrong) => self.builder.ins().ushr_imm_u(wrong, 32),
            None => self.number(0),
        };
        self.builder.ins().return_(&[result]);
    }

    /// A word whose upper half is zero if the check succeeds.
    fn what_is_wrong(&mut self, check: Check) -> Value {
        match check {
            Check::Descriptor(index) => {
                let last = self.state_word(LAST_DESCRIPTOR);
                let descriptor = self.lower_half(index);
                self.builder.ins().isub(last, descriptor)
            }
            Check::Read { pointer, length } => self.outside(pointer, length).0,
            Check::Written { pointer, length } => {
                let (outside, last) = self.outside(pointer, length);
                let watched = self.watched(self.arguments[pointer], last);
                self.builder.ins().bor(outside, watched)
            }
            Check::Zero(index) => {
                let value = self.arguments[index];
                let negated = self.builder.ins().ineg(value);
                self.builder.ins().bor(value, negated)
            }
            Check::Clear { argument, bits } => {
                let value = self.builder.ins().ireduce(types::I32, self.arguments[argument]);
                let value = self.builder.ins().band_imm_u(value, i64::from(bits));
                let value = self.builder.ins().uextend(types::I64, value);
                self.builder.ins().ineg(value)
            }
            Check::OneOf { argument, ignored, allowed } => {
                let value = self.builder.ins().ireduce(types::I32, self.arguments[argument]);
                let value = self.builder.ins().band_imm_u(value, i64::from(!ignored));
                let value = self.builder.ins().uextend(types::I64, value);
                let too_large = self.builder.ins().ushr_imm_u(value, 6);
                let too_large = self.builder.ins().ineg(too_large);
                let allowed = self.number(allowed as i64);
                let allowed = self.builder.ins().ushr(allowed, value);
                let allowed = self.builder.ins().band_imm_u(allowed, 1);
                let one = self.number(1);
                let refused = self.builder.ins().isub(allowed, one);
                self.builder.ins().bor(too_large, refused)
            }
        }
    }

    /// A word whose upper half is zero if the memory lies in the window, and the address of its last byte.
    fn outside(&mut self, pointer: usize, length: Length) -> (Value, Value) {
        const { assert!(WINDOW_END == 1 << 32, "what lies outside has a bit in the upper half") };
        let start = self.arguments[pointer];
        let (length, mut wrong) = match length {
            Length::Fixed(length) => (self.number(length as i64), start),
            Length::Bytes(index) => {
                let length = self.arguments[index];
                (length, self.builder.ins().bor(start, length))
            }
            Length::Values { count, size } => {
                let count = self.arguments[count];
                let shift = WINDOW_END.ilog2() - MOST_VALUES.ilog2();
                let too_many = self.builder.ins().ishl_imm_u(count, i64::from(shift));
                let too_many = self.builder.ins().bor(count, too_many);
                let wrong = self.builder.ins().bor(start, too_many);
                (self.builder.ins().imul_imm_u(count, size as i64), wrong)
            }
        };
        // Both are below 2^32 if nothing is wrong so far: no sum wraps. Nothing at null ends at -1, and is refused.
        let end = self.builder.ins().iadd(start, length);
        let one = self.number(1);
        let last = self.builder.ins().isub(end, one);
        wrong = self.builder.ins().bor(wrong, last);
        (wrong, last)
    }

    /// All ones if any of these bytes may be watched, else 0.
    fn watched(&mut self, start: Value, last: Value) -> Value {
        let watched_start = self.state_word(WATCHED_START);
        let watched_last = self.state_word(WATCHED_LAST);
        let is_above = self.builder.ins().isub(watched_last, start);
        let is_below = self.builder.ins().isub(last, watched_start);
        let is_apart = self.builder.ins().bor(is_above, is_below);
        let is_apart = self.builder.ins().sshr_imm_u(is_apart, 63);
        self.builder.ins().bnot(is_apart)
    }

    /// Calls the host's function and hands its results to the guest.
    fn answer(&mut self, index: usize, answered: &Answered) {
        let give_up = self.builder.create_block();
        let function = self.state_word(VDSO + 8 * index as i32);
        self.unless(IntCC::Equal, function, 0, give_up);
        match answered.results {
            Results::PairAtSecond => self.answer_pair(function, give_up, 1),
            Results::PairAtFirst => {
                self.unless(IntCC::NotEqual, self.arguments[1], 0, give_up);
                self.answer_pair(function, give_up, 0);
            }
            Results::Returned => self.answer_returned(function, give_up),
            Results::HalvesAtBoth => self.answer_halves(function, give_up),
        }
        self.builder.switch_to_block(give_up);
        let fall_back = self.number(FALL_BACK);
        self.builder.ins().return_(&[fall_back]);
    }

    fn answer_pair(&mut self, function: Value, give_up: Block, at: usize) {
        let to = self.arguments[at];
        self.unless_in_window(to, 16, give_up);
        let slot = self.slot(16);
        let address = self.builder.ins().stack_addr(types::I64, slot, 0);
        let mut arguments = [self.arguments[0], self.arguments[1]];
        arguments[at] = address;
        let status = self.call(function, &arguments, types::I32);
        self.unless(IntCC::NotEqual, status, 0, give_up);
        let first = self.builder.ins().stack_load(types::I64, types::I64, slot, 0);
        let second = self.builder.ins().stack_load(types::I64, types::I64, slot, 8);
        self.store(self.stores[0], [to, first, second], give_up);
        self.succeed_with(0);
    }

    fn answer_returned(&mut self, function: Value, give_up: Block) {
        let to = self.arguments[0];
        self.unless_in_window(to, 8, give_up);
        let null = self.number(0);
        let result = self.call(function, &[null], types::I64);
        self.store_unless_null(self.stores[1], to, result, give_up);
        self.builder.ins().return_(&[result]);
    }

    fn answer_halves(&mut self, function: Value, give_up: Block) {
        let (first, second) = (self.arguments[0], self.arguments[1]);
        self.unless_in_window(first, 4, give_up);
        self.unless_in_window(second, 4, give_up);
        let slot = self.slot(8);
        let arguments = [
            self.builder.ins().stack_addr(types::I64, slot, 0),
            self.builder.ins().stack_addr(types::I64, slot, 4),
            self.number(0),
        ];
        let status = self.call(function, &arguments, types::I32);
        self.unless(IntCC::NotEqual, status, 0, give_up);
        for (to, offset) in [(first, 0), (second, 4)] {
            let value = self.builder.ins().stack_load(types::I64, types::I32, slot, offset);
            let value = self.builder.ins().uextend(types::I64, value);
            self.store_unless_null(self.stores[2], to, value, give_up);
        }
        self.succeed_with(0);
    }
}

/// What the above is put together from.
impl Stub<'_> {
    fn number(&mut self, value: i64) -> Value {
        self.builder.ins().iconst(types::I64, value)
    }

    fn lower_half(&mut self, index: usize) -> Value {
        let value = self.builder.ins().ireduce(types::I32, self.arguments[index]);
        self.builder.ins().uextend(types::I64, value)
    }

    fn state_word(&mut self, offset: i32) -> Value {
        let address = self.builder.ins().symbol_value(types::I64, self.state);
        // Another thread may change it: each use is a load of its own.
        self.builder.ins().load(types::I64, MemFlagsData::new(), address, offset)
    }

    fn slot(&mut self, size: u32) -> StackSlot {
        self.builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, size, 3))
    }

    fn call(&mut self, function: Value, arguments: &[Value], result: types::Type) -> Value {
        let signature = self.builder.import_signature(signature(arguments.len(), result));
        let call = self.builder.ins().call_indirect(signature, function, arguments);
        self.builder.inst_results(call)[0]
    }

    /// Goes to `otherwise` if the condition holds.
    fn unless(&mut self, condition: IntCC, value: Value, than: i64, otherwise: Block) {
        let holds = self.builder.ins().icmp_imm_s(condition, value, than);
        let next = self.builder.create_block();
        self.builder.ins().brif(holds, otherwise, [], next, []);
        self.builder.switch_to_block(next);
    }

    fn unless_in_window(&mut self, start: Value, length: i64, otherwise: Block) {
        let last = self.builder.ins().iadd_imm_s(start, length - 1);
        let wrong = self.builder.ins().bor(start, last);
        let wrong = self.builder.ins().ushr_imm_u(wrong, 32);
        self.unless(IntCC::NotEqual, wrong, 0, otherwise);
    }

    fn store(&mut self, store: FuncRef, arguments: [Value; 3], give_up: Block) {
        let call = self.builder.ins().call(store, &arguments);
        let missed = self.builder.inst_results(call)[0];
        self.unless(IntCC::NotEqual, missed, 0, give_up);
    }

    fn store_unless_null(&mut self, store: FuncRef, to: Value, value: Value, give_up: Block) {
        let next = self.builder.create_block();
        self.unless(IntCC::Equal, to, 0, next);
        let unused = self.number(0);
        self.store(store, [to, value, unused], give_up);
        self.builder.ins().jump(next, []);
        self.builder.switch_to_block(next);
    }

    fn succeed_with(&mut self, result: i64) {
        let result = self.number(result);
        self.builder.ins().return_(&[result]);
    }
}
