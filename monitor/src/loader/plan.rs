//! What has to be mapped for a program: pure arithmetic, in the manner of `elf_load` (fs/binfmt_elf.c).

use endo_core::{GuestAddr, GuestRange, PAGE_SIZE, Rights};

use super::elf::Image;

/// One thing to be done to the address space. Addresses and lengths are whole pages, except in [`Step::Clear`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Map pages of the file, private.
    File {
        /// Where.
        range: GuestRange,
        /// From which byte of the file: a multiple of the page size.
        offset: u64,
        /// What the program may do there.
        rights: Rights,
    },
    /// Map zero pages.
    Zero {
        /// Where.
        range: GuestRange,
        /// What the program may do there.
        rights: Rights,
    },
    /// Overwrite the end of the last file page, where the segment is longer than its part of the file.
    Clear {
        /// Which bytes.
        range: GuestRange,
    },
}

/// All of a program's mappings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The steps, in order. A later step may cover what an earlier one mapped.
    pub steps: Vec<Step>,
    /// From the first page to the end of the last one.
    pub span: GuestRange,
    /// What was added to every address of the headers.
    pub bias: u64,
}

/// Plans a program moved by `bias`, or `None` if it would wrap around the address space.
pub fn plan(image: &Image, bias: u64) -> Option<Plan> {
    let (start, end) = image.span();
    let span = moved_range(start, end, bias)?.page_aligned()?;
    let mut steps = Vec::with_capacity(2 * image.segments.len());
    for segment in image.segments.iter().filter(|segment| segment.memory_bytes > 0) {
        let memory = moved_range(segment.address, segment.end(), bias)?;
        let mut zero_from = memory.start().page_start();
        if segment.file_bytes > 0 {
            let file_end = GuestAddr(memory.start().0 + segment.file_bytes);
            let range = GuestRange::from_bounds(memory.start(), file_end)?.page_aligned()?;
            let offset = segment.offset & !(PAGE_SIZE - 1);
            steps.push(Step::File { range, offset, rights: segment.rights });
            // To the end of the page, even past the segment's end. The kernel tries it with a page that is not
            // writable too, and ignores that it cannot.
            let clears = segment.file_bytes < segment.memory_bytes && file_end < range.end();
            if clears && segment.rights.contains(Rights::WRITE) {
                steps.push(Step::Clear { range: GuestRange::from_bounds(file_end, range.end())? });
            }
            zero_from = range.end();
        }
        if zero_from < memory.end() {
            let range = GuestRange::from_bounds(zero_from, memory.end())?.page_aligned()?;
            // Zero pages come from brk, which makes them readable and writable whatever the segment says.
            let rights = segment.rights | Rights::READ | Rights::WRITE;
            steps.push(Step::Zero { range, rights });
        }
    }
    Some(Plan { steps, span, bias })
}

fn moved_range(start: u64, end: u64, bias: u64) -> Option<GuestRange> {
    let start = start.wrapping_add(bias);
    let end = end.wrapping_add(bias);
    GuestRange::from_bounds(GuestAddr(start), GuestAddr(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::elf::{Placement, Segment};

    const CODE: Rights = Rights::READ.union(Rights::EXECUTE);
    const DATA: Rights = Rights::READ.union(Rights::WRITE);

    fn image(segments: Vec<Segment>) -> Image {
        Image {
            placement: Placement::Anywhere,
            entry: 0,
            headers_address: None,
            header_count: 1,
            segments,
            interpreter: None,
            executable_stack: None,
        }
    }

    fn segment(address: u64, memory_bytes: u64, offset: u64, file_bytes: u64, rights: Rights) -> Segment {
        Segment { address, memory_bytes, offset, file_bytes, rights, alignment: PAGE_SIZE }
    }

    fn range(start: u64, end: u64) -> GuestRange {
        GuestRange::from_bounds(GuestAddr(start), GuestAddr(end)).unwrap()
    }

    #[test]
    fn a_segment_of_the_file_is_mapped_by_whole_pages() {
        let plan = plan(&image(vec![segment(0x1234, 0x100, 0x234, 0x100, CODE)]), 0x10_0000).unwrap();
        assert_eq!(plan.steps, [Step::File { range: range(0x10_1000, 0x10_2000), offset: 0, rights: CODE }]);
        assert_eq!(plan.span, range(0x10_1000, 0x10_2000));
    }

    #[test]
    fn bss_clears_the_rest_of_the_last_page_and_maps_zero_pages_after_it() {
        let plan = plan(&image(vec![segment(0x1f00, 0x3000, 0xf00, 0x200, DATA)]), 0).unwrap();
        let expected = [
            Step::File { range: range(0x1000, 0x3000), offset: 0, rights: DATA },
            Step::Clear { range: range(0x2100, 0x3000) },
            Step::Zero { range: range(0x3000, 0x5000), rights: DATA },
        ];
        assert_eq!(plan.steps, expected);
    }

    #[test]
    fn bss_within_the_last_page_maps_nothing_more() {
        let plan = plan(&image(vec![segment(0x1000, 0x300, 0, 0x200, DATA)]), 0).unwrap();
        let expected = [
            Step::File { range: range(0x1000, 0x2000), offset: 0, rights: DATA },
            Step::Clear { range: range(0x1200, 0x2000) },
        ];
        assert_eq!(plan.steps, expected);
    }

    #[test]
    fn a_segment_without_file_bytes_is_zero_pages() {
        let plan = plan(&image(vec![segment(0x1800, 0x1000, 0x77, 0, DATA)]), 0).unwrap();
        assert_eq!(plan.steps, [Step::Zero { range: range(0x1000, 0x3000), rights: DATA }]);
    }

    #[test]
    fn a_page_that_cannot_be_written_is_not_cleared() {
        let plan = plan(&image(vec![segment(0x1000, 0x300, 0, 0x200, CODE)]), 0).unwrap();
        assert_eq!(plan.steps, [Step::File { range: range(0x1000, 0x2000), offset: 0, rights: CODE }]);
    }

    #[test]
    fn a_bias_that_wraps_is_refused() {
        assert_eq!(plan(&image(vec![segment(0x1000, 0x2000, 0, 0, DATA)]), u64::MAX - 0x1fff), None);
    }
}
