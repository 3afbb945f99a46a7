//! Fragments written as text, and the layout they are written for.
//!
//! A case begins with `== name`. Then come `reason: Reason` (its variant), `predicted-returns` if the layout has those, and
//! lines of bytes with `;` comments. A line's leading `!` marks the refused instruction. Apart from
//! two-digit hexadecimal bytes a line may hold
//!
//! ```text
//! name:            a label; `name: indirect` also claims an indirect entry
//! rel8(target)     the distance from behind this field to a label, a gate, `other` (a live fragment),
//! rel32(target)    `nowhere` (cache without a fragment) or `outside` (the window), plus a constant
//! disp32(slot)     a displacement from fs: `spill`, `beyond`, `bases`, `exit`, `target` (of a return), `stack` (of a
//!                  return), plus or minus a constant
//! ```

use endo_sfi::returns::Returns;
use endo_sfi::verify::{Claims, ContextSlots, Gates, Layout, Verifier};
use std::collections::HashMap;

pub(crate) const CACHE: u64 = 0x7f00_0000_0000;
pub(crate) const OTHER: u64 = CACHE + 0x1000;
/// Where cases lie: at no multiple of the verifier's words.
pub(crate) const PLACE: u64 = CACHE + 0x2038;
const NOWHERE: u64 = CACHE + 0x8000;

/// `movabs rax, 0`, `jmp` to itself: a boundary at the first byte and none at the second.
pub(crate) const OTHER_BYTES: [u8; 15] = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xe9, 0xf1, 0xff, 0xff, 0xff];

pub(crate) fn layout() -> Layout {
    Layout {
        cache: CACHE..CACHE + 0x10_0000,
        context: ContextSlots {
            spill: -0x80..-0x40,
            guest_bases: -0x40..-0x30,
            return_target: -0x28,
            return_stack: -0x20,
            exit_info: -0x30,
        },
        gates: Gates { link: CACHE, syscall: CACHE + 0x40, special: CACHE + 0x80, miss: CACHE + 0xc0 },
        returns: Returns::Dispatched,
    }
}

/// A verifier with the fragment `other`.
pub(crate) fn verifier(layout: Layout) -> Verifier {
    let mut verifier = Verifier::new(layout);
    verifier.admit(OTHER, &OTHER_BYTES, &Claims::default()).expect("the other fragment is admitted");
    verifier
}

#[derive(Debug, Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) reason: Option<String>,
    pub(crate) returns: Returns,
    pub(crate) bytes: Vec<u8>,
    pub(crate) indirect_entries: Vec<u32>,
    /// Offset of the instruction marked with `!`.
    pub(crate) marked: Option<usize>,
}

pub(crate) fn parse(text: &str) -> Vec<Case> {
    text.split("\n== ").skip(1).map(Case::parse).collect()
}

/// A field to fill in when all labels are known.
struct Field {
    at: usize,
    size: usize,
    target: String,
}

impl Case {
    fn parse(block: &str) -> Case {
        let mut lines = block.lines();
        let mut case = Case { name: lines.next().expect("a name").into(), ..Case::default() };
        let mut labels = HashMap::new();
        let mut fields = Vec::new();
        for line in lines.filter(|line| !line.starts_with('#')) {
            if let Some(reason) = line.strip_prefix("reason: ") {
                case.reason = Some(reason.into());
            } else if line == "predicted-returns" {
                case.returns = Returns::Predicted;
            } else {
                case.line(line, &mut labels, &mut fields);
            }
        }
        for field in fields {
            let behind = PLACE + (field.at + field.size) as u64;
            let distance = address(&field.target, &labels).wrapping_sub(behind) as i64;
            let bytes = distance.to_le_bytes();
            if field.size == 1 {
                i8::try_from(distance).expect("a short distance");
            }
            case.bytes[field.at..field.at + field.size].copy_from_slice(&bytes[..field.size]);
        }
        case
    }

    fn line(&mut self, line: &str, labels: &mut HashMap<String, u64>, fields: &mut Vec<Field>) {
        let code = line.split(';').next().unwrap_or_default();
        for word in code.split_whitespace() {
            let argument = |name: &str| word.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
            let at = self.bytes.len();
            if word == "!" {
                self.marked = Some(at);
            } else if word == "indirect" {
                self.indirect_entries.push(at as u32);
            } else if let Some(label) = word.strip_suffix(':') {
                labels.insert(label.into(), PLACE + at as u64);
            } else if let Some(target) = argument("rel8") {
                fields.push(Field { at, size: 1, target: target.into() });
                self.bytes.extend([0; 1]);
            } else if let Some(target) = argument("rel32") {
                fields.push(Field { at, size: 4, target: target.into() });
                self.bytes.extend([0; 4]);
            } else if let Some(slot) = argument("disp32") {
                self.bytes.extend(displacement(slot).to_le_bytes());
            } else {
                self.bytes
                    .push(u8::from_str_radix(word, 16).unwrap_or_else(|_| panic!("{}: {word}", self.name)));
            }
        }
    }
}

fn address(target: &str, labels: &HashMap<String, u64>) -> u64 {
    let (name, plus) = target.split_once('+').unwrap_or((target, "0"));
    let gates = layout().gates;
    let base = match name {
        "link" => gates.link,
        "syscall" => gates.syscall,
        "special" => gates.special,
        "miss" => gates.miss,
        "other" => OTHER,
        "nowhere" => NOWHERE,
        // As far below the cache as a rel32 reaches.
        "outside" => CACHE - 0x4000_0000,
        label => *labels.get(label).unwrap_or_else(|| panic!("no label {label}")),
    };
    base + plus.parse::<u64>().expect("a number")
}

fn displacement(slot: &str) -> i32 {
    let split = slot.find(['+', '-']).unwrap_or(slot.len());
    let (name, plus) = slot.split_at(split);
    let context = layout().context;
    let base = match name {
        "spill" => context.spill.start,
        "beyond" => context.exit_info + 8,
        "bases" => context.guest_bases.start,
        "exit" => context.exit_info,
        "target" => context.return_target,
        "stack" => context.return_stack,
        _ => panic!("no slot {name}"),
    };
    base + if plus.is_empty() { 0 } else { plus.parse::<i32>().expect("a number") }
}
