//! The memory map against a model that keeps one entry a page, and the kernel's rules one by one.

use endo_core::{GuestAddr, GuestRange, PAGE_SIZE, Rights};
use proptest::prelude::*;

use super::change::Reach;
use super::remap::RemapRequest;
use super::testing::{Page, RecordingBackend, WINDOW};
use super::{Label, MapRequest, MemoryMap, Placement, Sharing};
use crate::errno::Errno;

const RW: Rights = Rights::READ.union(Rights::WRITE);
const RX: Rights = Rights::READ.union(Rights::EXECUTE);
const MAYMOVE: i32 = libc::MREMAP_MAYMOVE;
const FIXED: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
const DONTUNMAP: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;

fn pages(count: u64) -> u64 {
    count * PAGE_SIZE
}

fn at(page: u64) -> GuestAddr {
    GuestAddr(pages(page))
}

fn map_at(backend: &RecordingBackend, map: &mut MemoryMap, page: u64, count: u64, rights: Rights) {
    map.map_anonymous(backend, Placement::Fixed(at(page)), pages(count), rights, Label::Guest).unwrap();
}

fn remap_request(old: u64, old_count: u64, new_count: u64, flags: i32, new: u64) -> RemapRequest {
    RemapRequest {
        old_start: at(old),
        old_length: pages(old_count),
        new_length: pages(new_count),
        flags,
        new_start: at(new),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Map { page: u64, count: u64, rights: Rights, is_fixed: bool },
    Unmap { page: u64, count: u64 },
    Protect { page: u64, count: u64, rights: Rights },
    Move { page: u64, count: u64, new_count: u64, target: u64, flags: i32 },
    Discard { page: u64, count: u64 },
}

const PAGES: u64 = WINDOW / PAGE_SIZE;
const FIRST: u64 = 16;

fn some_rights() -> impl Strategy<Value = Rights> {
    (0..8_u8).prop_map(Rights::from_bits_truncate)
}

fn some_step() -> impl Strategy<Value = Step> {
    // Few pages, so that the steps meet.
    let page = || FIRST..FIRST + 40;
    let count = || 1..12_u64;
    let flags = prop::sample::select(vec![0, MAYMOVE, FIXED, DONTUNMAP]);
    prop_oneof![
        (page(), count(), some_rights(), any::<bool>())
            .prop_map(|(page, count, rights, is_fixed)| Step::Map { page, count, rights, is_fixed }),
        (page(), count()).prop_map(|(page, count)| Step::Unmap { page, count }),
        (page(), count(), some_rights()).prop_map(|(page, count, rights)| Step::Protect {
            page,
            count,
            rights
        }),
        (page(), count(), count(), page(), flags).prop_map(|(page, count, new_count, target, flags)| {
            Step::Move { page, count, new_count, target, flags }
        }),
        (page(), count()).prop_map(|(page, count)| Step::Discard { page, count }),
    ]
}

/// One page as the model has it: its rights, and the byte it starts with.
type ModelPage = Option<(Rights, u8)>;

struct Model {
    pages: Vec<ModelPage>,
    next_byte: u8,
}

impl Model {
    fn range(&mut self, page: u64, count: u64) -> &mut [ModelPage] {
        &mut self.pages[page as usize..(page + count) as usize]
    }

    fn map(&mut self, page: u64, count: u64, rights: Rights) {
        self.range(page, count).fill(Some((rights, 0)));
    }

    fn protect(&mut self, page: u64, count: u64, rights: Rights) -> bool {
        let hole = self.range(page, count).iter().position(Option::is_none);
        let reached = hole.unwrap_or(count as usize);
        self.range(page, reached as u64).iter_mut().flatten().for_each(|entry| entry.0 = rights);
        hole.is_none()
    }

    fn move_to(&mut self, page: u64, count: u64, new: u64, new_count: u64, keeps_old: bool) {
        let old: Vec<_> = self.range(page, count).to_vec();
        let rights = old[0].expect("the old range was mapped").0;
        self.range(new, new_count).fill(Some((rights, 0)));
        let moved = count.min(new_count);
        let emptied = if keeps_old { Some((rights, 0)) } else { None };
        self.range(page, count).fill(emptied);
        self.range(new, moved).copy_from_slice(&old[..moved as usize]);
    }
}

fn take_step(backend: &RecordingBackend, map: &mut MemoryMap, model: &mut Model, step: &Step) {
    match *step {
        Step::Map { page, count, rights, is_fixed } => {
            let placement = if is_fixed { Placement::Fixed(at(page)) } else { Placement::Hint(at(page)) };
            let range = map.map_anonymous(backend, placement, pages(count), rights, Label::Guest).unwrap();
            assert!(!is_fixed || range.start() == at(page));
            assert_eq!(range.len(), pages(count));
            let first = range.start().0 / PAGE_SIZE;
            let was_free = model.range(first, count).iter().all(Option::is_none);
            assert!(is_fixed || was_free, "only a fixed mapping replaces");
            model.map(first, count, rights);
        }
        Step::Unmap { page, count } => {
            map.unmap(backend, at(page), pages(count)).unwrap();
            model.range(page, count).fill(None);
        }
        Step::Protect { page, count, rights } => {
            let done = map.protect(backend, at(page), pages(count), rights, Reach::Exact);
            let expected = if model.protect(page, count, rights) { Ok(()) } else { Err(Errno::ENOMEM) };
            assert_eq!(done, expected);
        }
        Step::Move { page, count, new_count, target, flags } => {
            let request = remap_request(page, count, new_count, flags, target);
            let whole = map.find(at(page)).is_some_and(|m| m.end() >= at(page + count));
            let moved = map.remap(backend, &request);
            if let Ok(start) = moved {
                let is_in_place = start == at(page);
                assert!(whole || is_in_place && new_count <= count, "a move stays within one mapping");
                let first = start.0 / PAGE_SIZE;
                if !is_in_place {
                    model.move_to(page, count, first, new_count, flags == DONTUNMAP);
                } else if new_count < count {
                    model.range(page + new_count, count - new_count).fill(None);
                } else if new_count > count {
                    let rights = model.pages[page as usize].expect("the old range was mapped").0;
                    assert!(model.range(page + count, new_count - count).iter().all(Option::is_none));
                    model.map(page + count, new_count - count, rights);
                }
            } else {
                assert!(!whole || flags == 0 || flags == FIXED || flags == DONTUNMAP, "{moved:?}");
            }
        }
        Step::Discard { page, count } => {
            let _ = map.advise(backend, at(page), pages(count), libc::MADV_DONTNEED);
            model.range(page, count).iter_mut().flatten().for_each(|entry| entry.1 = 0);
        }
    }
    mark_pages(backend, model);
}

/// Gives every writable page a byte of its own, so that contents can be followed.
fn mark_pages(backend: &RecordingBackend, model: &mut Model) {
    for (page, entry) in model.pages.iter_mut().enumerate() {
        if let Some((rights, byte)) = entry
            && rights.contains(Rights::WRITE)
            && *byte == 0
        {
            model.next_byte = model.next_byte % 255 + 1;
            *byte = model.next_byte;
            backend.poke(at(page as u64), *byte);
        }
    }
}

fn compare(backend: &RecordingBackend, map: &MemoryMap, model: &Model) {
    let host = backend.host_rights();
    for (index, entry) in model.pages.iter().enumerate() {
        let addr = at(index as u64);
        let mapping = map.find(addr);
        assert_eq!(mapping.map(|m| m.rights), entry.map(|entry| entry.0), "rights of page {index}");
        let effective = mapping.map(|m| m.effective_rights());
        let is_code = entry.is_some_and(|entry| entry.0.contains(Rights::EXECUTE));
        assert_eq!(backend.page(addr), Page { rights: effective, is_code }, "backend's view of page {index}");
        let real = effective.map_or(Rights::empty(), |rights| rights - Rights::EXECUTE);
        assert_eq!(host[index], real, "protection of page {index}");
        if let Some((rights, byte)) = entry.filter(|(rights, _)| !rights.is_empty()) {
            assert!(byte == 0 || backend.peek(addr) == byte, "content of page {index} with {rights:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_map_the_backend_and_the_host_agree_with_a_page_array(
        steps in prop::collection::vec(some_step(), 1..24),
    ) {
        let (backend, mut map) = RecordingBackend::with_map();
        let mut model = Model { pages: vec![None; PAGES as usize], next_byte: 0 };
        for step in &steps {
            take_step(&backend, &mut map, &mut model, step);
            compare(&backend, &map, &model);
        }
    }
}

#[test]
fn a_length_of_zero_is_invalid_and_one_that_wraps_does_not_fit() {
    let (backend, mut map) = RecordingBackend::with_map();
    let mut map_length = |length| map.map_anonymous(&backend, Placement::Anywhere, length, RW, Label::Guest);
    assert_eq!(map_length(0), Err(Errno::EINVAL));
    assert_eq!(map_length(u64::MAX), Err(Errno::ENOMEM));
    assert_eq!(map_length(WINDOW), Err(Errno::ENOMEM));
    assert_eq!(map_length(1).map(GuestRange::len), Ok(PAGE_SIZE));
}

#[test]
fn fixed_addresses_are_refused_as_the_kernel_does() {
    let (backend, mut map) = RecordingBackend::with_map();
    let mut map_at = |addr: u64| {
        let placement = Placement::Fixed(GuestAddr(addr));
        map.map_anonymous(&backend, placement, PAGE_SIZE, RW, Label::Guest).map(GuestRange::start)
    };
    assert_eq!(map_at(0x1_0001), Err(Errno::EINVAL));
    assert_eq!(map_at(0), Err(Errno::EPERM));
    assert_eq!(map_at(0xf000), Err(Errno::EPERM));
    assert_eq!(map_at(0x1_0000), Ok(GuestAddr(0x1_0000)));
    assert_eq!(map_at(WINDOW - (64 << 10)), Err(Errno::ENOMEM));
    assert_eq!(map_at(1 << 40), Err(Errno::ENOMEM));
    assert_eq!(map_at(u64::MAX - 0xfff), Err(Errno::ENOMEM));
}

#[test]
fn a_taken_place_is_refused_only_without_replacement() {
    let (backend, mut map) = RecordingBackend::with_map();
    map_at(&backend, &mut map, 20, 4, RW);
    let mut map_over = |placement| map.map_anonymous(&backend, placement, pages(2), RW, Label::Guest);
    assert_eq!(map_over(Placement::FixedNoReplace(at(23))), Err(Errno::EEXIST));
    assert_eq!(map_over(Placement::FixedNoReplace(at(24))).map(GuestRange::start), Ok(at(24)));
    assert_eq!(map_over(Placement::Fixed(at(22))).map(GuestRange::start), Ok(at(22)));
}

#[test]
fn a_hint_is_taken_if_it_is_free_and_rounded_up() {
    let (backend, mut map) = RecordingBackend::with_map();
    let mut map_near = |addr: u64| {
        let placement = Placement::Hint(GuestAddr(addr));
        map.map_anonymous(&backend, placement, PAGE_SIZE, RW, Label::Guest).unwrap().start()
    };
    assert_eq!(map_near(pages(30) - 1), at(30));
    assert_ne!(map_near(pages(30)), at(30));
    assert_eq!(map_near(1), GuestAddr(64 << 10));
    assert_eq!(map_near(1 << 40), GuestAddr(WINDOW - (64 << 10) - pages(2)));
}

#[test]
fn mappings_are_placed_from_the_top_down() {
    let (backend, mut map) = RecordingBackend::with_map();
    let mut next =
        || map.map_anonymous(&backend, Placement::Anywhere, pages(2), RW, Label::Guest).unwrap().start();
    let top = WINDOW - (64 << 10);
    assert_eq!((next(), next()), (GuestAddr(top - pages(2)), GuestAddr(top - pages(4))));
}

#[test]
fn what_is_large_is_placed_at_the_end_of_the_window_and_the_rest_in_its_low_half() {
    let map = MemoryMap::new(GuestRange::new(GuestAddr(0), 4 << 30).unwrap());
    let end_of = |length| map.choose(Placement::Anywhere, length).map(|range| range.end().0);
    assert_eq!(end_of(super::place::LARGE - PAGE_SIZE), Ok(super::place::LOW_END));
    assert_eq!(end_of(super::place::LARGE), Ok((4 << 30) - super::place::END_GUARD));
}

#[test]
fn what_grows_downwards_is_placed_where_it_can() {
    let (backend, mut map) = RecordingBackend::with_map();
    let top = WINDOW - (64 << 10);
    // Below the highest gap, which is just large enough, something is mapped.
    let neighbour = Placement::Fixed(GuestAddr(top - pages(3)));
    map.map_anonymous(&backend, neighbour, PAGE_SIZE, RW, Label::Guest).unwrap();
    let anonymous = MapRequest::anonymous(Placement::Anywhere, pages(2), RW, Label::Guest);
    let stack = map.map(&backend, &MapRequest { grows_down: true, ..anonymous }).unwrap();
    assert_eq!(stack.end(), GuestAddr(top - pages(3)));
    map.grow_down(&backend, GuestAddr(stack.start().0 - 1)).unwrap();
}

#[test]
fn space_below_a_stack_stays_free() {
    let (backend, mut map) = RecordingBackend::with_map();
    let stack = map.map_stack(&backend, pages(16)).unwrap();
    let next = map.map_anonymous(&backend, Placement::Anywhere, PAGE_SIZE, RW, Label::Guest).unwrap();
    assert_eq!(stack.start().0 - next.end().0, super::intervals::STACK_GUARD_GAP);
}

#[test]
fn a_stack_grows_to_a_touched_page_but_not_into_a_neighbour() {
    let (backend, mut map) = RecordingBackend::with_map();
    let request = MapRequest {
        grows_down: true,
        ..MapRequest::anonymous(Placement::Fixed(at(600)), pages(2), RW, Label::Guest)
    };
    map.map(&backend, &request).unwrap();
    assert_eq!(map.grow_down(&backend, GuestAddr(pages(590) + 8)), Ok(()));
    assert_eq!(map.find(at(590)).map(|m| m.range), GuestRange::from_bounds(at(590), at(602)));
    map_at(&backend, &mut map, 300, 2, RW);
    assert_eq!(map.grow_down(&backend, at(302 + 255)), Err(Errno::ENOMEM));
    assert_eq!(map.grow_down(&backend, at(302 + 256)), Ok(()));
    assert_eq!(map.grow_down(&backend, at(100)), Err(Errno::EFAULT));
}

#[test]
fn protection_stops_at_a_hole_and_keeps_what_it_did() {
    let (backend, mut map) = RecordingBackend::with_map();
    map_at(&backend, &mut map, 20, 2, RW);
    map_at(&backend, &mut map, 23, 1, RW);
    let mut protect =
        |page, count, rights| map.protect(&backend, at(page), pages(count), rights, Reach::Exact);
    assert_eq!(protect(20, 4, Rights::READ), Err(Errno::ENOMEM));
    assert_eq!(protect(30, 1, Rights::READ), Err(Errno::ENOMEM));
    assert_eq!(protect(30, 0, Rights::READ), Ok(()));
    let rights = |page| map.find(at(page)).map(|m| m.rights);
    assert_eq!((rights(20), rights(21), rights(23)), (Some(Rights::READ), Some(Rights::READ), Some(RW)));
}

#[test]
fn what_may_be_written_or_run_may_be_read() {
    let (backend, mut map) = RecordingBackend::with_map();
    map_at(&backend, &mut map, 20, 1, Rights::EXECUTE);
    map_at(&backend, &mut map, 21, 1, Rights::WRITE);
    assert_eq!(backend.page(at(20)), Page { rights: Some(RX), is_code: true });
    assert_eq!(backend.page(at(21)), Page { rights: Some(RW), is_code: false });
}

#[test]
fn a_shared_mapping_of_a_file_open_for_reading_never_becomes_writable() {
    let (backend, mut map) = RecordingBackend::with_map();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let part = super::FilePart { fd: std::os::fd::AsRawFd::as_raw_fd(&file), offset: 0 };
    let request = MapRequest::anonymous(Placement::Fixed(at(20)), PAGE_SIZE, Rights::READ, Label::Guest);
    let request = MapRequest { sharing: Sharing::Shared, file: Some(part), ..request };
    map.map(&backend, &request).unwrap();
    assert_eq!(map.protect(&backend, at(20), PAGE_SIZE, RW, Reach::Exact), Err(Errno::EACCES));
    assert_eq!(map.map(&backend, &MapRequest { rights: RW, ..request }), Err(Errno::EACCES));
    assert_eq!(
        map.find(at(20)).map(|m| m.rights),
        Some(Rights::READ),
        "a refused replacement leaves what was there"
    );
    assert_eq!(backend.page(at(20)).rights, Some(Rights::READ));
}

#[test]
fn a_file_mapping_shows_its_part_of_the_file_after_a_split() {
    let (backend, mut map) = RecordingBackend::with_map();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let part = super::FilePart { fd: std::os::fd::AsRawFd::as_raw_fd(&file), offset: pages(1) };
    map.map_file(&backend, part, Placement::Fixed(at(20)), pages(4), Rights::READ, Label::Guest).unwrap();
    map.unmap(&backend, at(21), pages(1)).unwrap();
    let offset = |page| map.find(at(page)).and_then(|m| m.backing).map(|backing| backing.offset);
    assert_eq!((offset(20), offset(21), offset(22)), (Some(pages(1)), None, Some(pages(3))));
}

#[test]
fn remapping_refuses_what_the_kernel_refuses() {
    let (backend, mut map) = RecordingBackend::with_map();
    map_at(&backend, &mut map, 20, 4, RW);
    let mut remap = |old, old_count, new_count, flags, new| {
        map.remap(&backend, &remap_request(old, old_count, new_count, flags, new))
    };
    assert_eq!(remap(20, 4, 4, 8, 0), Err(Errno::EINVAL), "an unknown flag");
    assert_eq!(remap(20, 4, 0, 0, 0), Err(Errno::EINVAL), "to nothing");
    assert_eq!(remap(20, 0, 4, MAYMOVE, 0), Err(Errno::EINVAL), "a copy of private memory");
    assert_eq!(remap(30, 1, 2, 0, 0), Err(Errno::EFAULT), "of what is not mapped");
    assert_eq!(remap(20, 5, 6, MAYMOVE, 0), Err(Errno::EFAULT), "past the mapping's end");
    assert_eq!(remap(20, 4, 4, FIXED, 22), Err(Errno::EINVAL), "onto itself");
    assert_eq!(remap(20, 4, 4, libc::MREMAP_FIXED, 40), Err(Errno::EINVAL), "fixed but not to move");
    assert_eq!(remap(20, 4, 5, DONTUNMAP, 0), Err(Errno::EINVAL), "resized and left behind");
    assert_eq!(remap(20, 4, 4, FIXED, 0), Err(Errno::EPERM), "below the lowest address");
}

#[test]
fn a_shared_mapping_is_duplicated_by_an_old_length_of_zero() {
    let (backend, mut map) = RecordingBackend::with_map();
    let request = MapRequest::anonymous(Placement::Fixed(at(20)), pages(2), RW, Label::Guest);
    map.map(&backend, &MapRequest { sharing: Sharing::Shared, ..request }).unwrap();
    let copy = map.remap(&backend, &remap_request(20, 0, 2, MAYMOVE, 0)).unwrap();
    backend.poke(at(20), 77);
    assert_eq!(backend.peek(copy), 77);
    assert!(map.find(at(20)).is_some());
}

#[test]
fn a_shared_mapping_grows_where_it_is() {
    let (backend, mut map) = RecordingBackend::with_map();
    let file = tempfile::tempfile().unwrap();
    file.set_len(pages(4)).unwrap();
    let part = super::FilePart { fd: std::os::fd::AsRawFd::as_raw_fd(&file), offset: 0 };
    let request = MapRequest::anonymous(Placement::Fixed(at(20)), pages(2), RW, Label::Guest);
    map.map(&backend, &MapRequest { sharing: Sharing::Shared, file: Some(part), ..request }).unwrap();
    assert_eq!(map.remap(&backend, &remap_request(20, 2, 4, 0, 0)), Ok(at(20)));
    backend.poke(at(23), 5);
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, pages(3)).unwrap();
    assert_eq!(byte, [5]);
}

#[test]
fn the_break_moves_within_its_limits() {
    let (backend, mut map) = RecordingBackend::with_map();
    map.set_brk_start(GuestAddr(pages(20) + 5));
    assert_eq!(map.brk(&backend, GuestAddr(0)), at(21));
    assert_eq!(map.brk(&backend, GuestAddr(pages(22) + 1)), GuestAddr(pages(22) + 1));
    assert_eq!(map.find(at(22)).map(|m| m.label), Some(Label::Heap));
    assert_eq!(map.find(at(23)), None);
    assert_eq!(map.brk(&backend, GuestAddr(pages(21) + 1)), GuestAddr(pages(21) + 1));
    assert_eq!(map.find(at(22)), None);
    map_at(&backend, &mut map, 26, 1, RW);
    assert_eq!(map.brk(&backend, at(26)), GuestAddr(pages(21) + 1), "one page above the heap stays free");
    assert_eq!(map.brk(&backend, at(25)), at(25));
    assert_eq!(map.brk(&backend, at(20)), at(25), "below the start");
}

#[test]
fn limits_count_what_is_mapped() {
    let (backend, mut map) = RecordingBackend::with_map();
    map.limits_mut().address_space.soft = pages(4);
    map_at(&backend, &mut map, 20, 3, RW);
    let mut map_two =
        |page| map.map_anonymous(&backend, Placement::Fixed(at(page)), pages(2), RW, Label::Guest);
    assert_eq!(map_two(30), Err(Errno::ENOMEM));
    assert!(map_two(22).is_ok(), "a page that is replaced does not count twice");
}

#[test]
fn advice_reaches_what_is_mapped_around_a_hole() {
    let (backend, mut map) = RecordingBackend::with_map();
    map_at(&backend, &mut map, 20, 1, RW);
    map_at(&backend, &mut map, 22, 1, RW);
    backend.poke(at(22), 9);
    assert_eq!(map.advise(&backend, at(20), pages(3), libc::MADV_DONTNEED), Err(Errno::ENOMEM));
    assert_eq!(backend.peek(at(22)), 0);
    assert_eq!(
        map.advise(&backend, at(20), pages(1), 100),
        Err(Errno::EINVAL),
        "poisoning is not for guests"
    );
    assert_eq!(map.advise(&backend, GuestAddr(1), pages(1), libc::MADV_DONTNEED), Err(Errno::EINVAL));
}
