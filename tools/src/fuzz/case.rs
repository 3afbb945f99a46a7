//! What is run and what comes of it: plain data that lies in memory shared with the children.

use endo_core::{Exit, FaultKind, Registers};

/// Most bytes of code in a case.
pub const MAX_CODE: usize = 96;
/// Most words of memory that a case sets.
pub const MAX_POKES: usize = 10;
/// Most changed bytes of memory that an outcome lists; all of them count for its hash.
pub const MAX_CHANGES: usize = 768;
/// Bytes of an XSAVE area with the components of [`super::vector`], at most.
pub const VECTOR_BYTES: usize = 2816;
/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// The byte around every case's code: it stops whatever runs into it.
pub const INT3: u8 = 0xcc;

/// What a page may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Loads and stores.
    Data,
    /// Loads.
    Constant,
    /// Loads and instruction fetches. Filled with `int3`, so that whatever leaves the case's code stops.
    Code,
}

/// A few pages of one kind; behind every group of areas lies a hole.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// Guest address.
    pub start: u64,
    /// How many pages.
    pub pages: u64,
    /// What for.
    pub purpose: Use,
}

impl Area {
    /// Guest address past its last byte.
    pub const fn end(self) -> u64 {
        self.start + self.pages * PAGE
    }
}

const fn area(start: u64, pages: u64, purpose: Use) -> Area {
    Area { start, pages, purpose }
}

/// The memory of every case: at both ends of the window, on both sides of 2 GiB, and with every kind of neighbour.
pub const AREAS: [Area; 11] = [
    area(0x0001_0000, 2, Use::Data),
    area(0x0001_2000, 1, Use::Constant),
    area(0x1000_0000, 1, Use::Code),
    area(0x2000_0000, 2, Use::Data),
    area(0x2000_2000, 1, Use::Constant),
    area(0x3000_0000, 2, Use::Data),
    area(0xc000_0000, 1, Use::Code),
    area(0xd000_0000, 2, Use::Data),
    area(0xe000_0000, 2, Use::Data),
    area(0xe000_2000, 1, Use::Constant),
    area(0xfffe_e000, 2, Use::Data),
];

/// The areas that hold stacks, by index.
pub const STACKS: [usize; 2] = [5, 7];
/// The areas that hold code, by index.
pub const CODE: [usize; 2] = [2, 6];

/// One program of a few instructions, and the state it starts in.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Case {
    /// Guest address of the code.
    pub at: u64,
    /// Bytes of it that count.
    pub length: usize,
    /// The code.
    pub code: [u8; MAX_CODE],
    /// General registers, flags and segment bases; `pc` is `at`.
    pub registers: Registers,
    /// Decides the vector registers.
    pub vector_seed: u64,
    /// A vector register whose elements are small numbers, for use as an index; none if past 31.
    pub index_register: u8,
    /// Bytes of an element of it.
    pub index_size: u8,
    /// SSE control and status.
    pub mxcsr: u32,
    /// x87 control.
    pub x87_control: u16,
    /// Words of memory, before anything else: address and value. Address 0: none.
    pub pokes: [(u64, u64); MAX_POKES],
}

impl Case {
    /// The code.
    pub fn bytes(&self) -> &[u8] {
        &self.code[..self.length]
    }

    /// Sets a word of memory. Too many are ignored.
    pub fn poke(&mut self, address: u64, value: u64) {
        if let Some(slot) = self.pokes.iter_mut().find(|(used, _)| *used == 0 || *used == address) {
            *slot = (address, value);
        }
    }
}

/// A byte of memory that is not what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Change {
    /// Guest address.
    pub address: u32,
    /// Its value now.
    pub now: u8,
}

/// How a case ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The child ended before the case, or in it.
    Died,
    /// As the backend says.
    Exit(Exit),
}

/// All that a case leaves behind.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// General registers, program counter, flags and segment bases.
    pub registers: Registers,
    /// The vector state in a form of which equal states have one only.
    pub vector: [u8; VECTOR_BYTES],
    /// Hash of all changes.
    pub memory: u64,
    /// How many of `changes` count.
    pub change_count: usize,
    /// The first changed bytes.
    pub changes: [Change; MAX_CHANGES],
}

impl Outcome {
    /// Of a case that has not been run.
    pub fn none() -> Self {
        Outcome {
            ending: Ending::Died,
            registers: Registers::default(),
            vector: [0; VECTOR_BYTES],
            memory: 0,
            change_count: 0,
            changes: [Change { address: 0, now: 0 }; MAX_CHANGES],
        }
    }

    /// The changed bytes of memory that are listed.
    pub fn changes(&self) -> &[Change] {
        &self.changes[..self.change_count]
    }

    /// The kind of fault it ended in, if it did.
    pub fn fault(&self) -> Option<endo_core::Fault> {
        match self.ending {
            Ending::Exit(Exit::Fault(fault)) => Some(fault),
            _ => None,
        }
    }

    /// Whether it ran into the `int3` that surrounds every case's code.
    pub fn completed(&self) -> bool {
        self.fault().is_some_and(|fault| fault.kind == FaultKind::Breakpoint)
    }
}
