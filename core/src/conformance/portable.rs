//! Properties that need no guest code: windows, ranges and domains.

use super::Finding;
use super::fixture::{CODE, Fixture, expect, expect_equal, range};
use super::outside::{CANARY, Outside};
use crate::{DomainId, GuestAddr, GuestRange, IsolationBackend, PAGE_SIZE, Rights};

pub(super) fn the_window_holds_the_low_gigabyte<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    let window = fixture.backend.window(DomainId::MAIN).map_err(|error| error.to_string())?;
    let low = range(0x40_0000, (1 << 30) - 0x40_0000);
    expect(window.encloses(low), || format!("the window is {window:?}"))?;
    expect(window.start().is_page_aligned() && window.end().is_page_aligned(), || {
        format!("{window:?} is not made of pages")
    })?;
    expect(window.start().0 >= PAGE_SIZE, || "page zero is inside the window".to_owned())
}

pub(super) fn host_range_refuses_what_lies_outside_the_window<B: IsolationBackend>(
    fixture: &Fixture<B>,
) -> Finding {
    let window = fixture.backend.window(DomainId::MAIN).map_err(|error| error.to_string())?;
    let (start, end) = (window.start().0, window.end().0);
    let outside = [
        (0, 1),
        (start - 1, 1),
        (start - 1, 2),
        (end - 1, 2),
        (end, 1),
        (end - PAGE_SIZE, PAGE_SIZE + 1),
        (start, end - start + 1),
        (0, end),
        (start, u64::MAX - start),
        (1 << 47, 8),
        (u64::MAX - 8, 8),
        (0xffff_8000_0000_0000, 1),
    ];
    for (first, length) in outside {
        let found = fixture.backend.host_range(DomainId::MAIN, range(first, length));
        expect_equal(&format!("host range of {length:#x} bytes at {first:#x}"), found, None)?;
    }
    Ok(())
}

pub(super) fn host_range_is_linear<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    let host = |start, length| {
        let found = fixture.backend.host_range(DomainId::MAIN, range(start, length));
        found.ok_or_else(|| format!("{start:#x} is refused"))
    };
    let whole = host(CODE, 0x10_0000)?;
    expect_equal("length", whole.length, 0x10_0000)?;
    for offset in [0, 1, 0xfff, 0x1000, 0xf_ffff] {
        let part = host(CODE + offset, 1)?;
        expect_equal("place", part.start.0, whole.start.0 + offset as usize)?;
    }
    let window = fixture.backend.window(DomainId::MAIN).map_err(|error| error.to_string())?;
    host(window.start().0, window.len()).map(|_| ())
}

pub(super) fn memory_of_the_host_is_in_no_domain<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    Outside::new(&[]).map_err(|error| format!("no canary: {error}"))?;
    let local = 0_u64;
    let boxed = Box::new(0_u64);
    let places = [
        ("the stack", &raw const local as u64),
        ("the heap", &raw const *boxed as u64),
        ("code", memory_of_the_host_is_in_no_domain::<B> as fn(&Fixture<B>) -> Finding as usize as u64),
        ("the backend", std::ptr::from_ref(fixture.backend) as u64),
        ("a canary", CANARY),
    ];
    let mapped = places.iter().filter_map(|&(what, address)| {
        let host = fixture.backend.host_range(DomainId::MAIN, GuestRange::new(GuestAddr(address), 1)?)?;
        (host.start.0 as u64 == address).then_some(what)
    });
    expect_equal("places of the host that a guest may name", mapped.collect(), Vec::<&str>::new())
}

pub(super) fn an_unknown_domain_is_refused<B: IsolationBackend>(fixture: &Fixture<B>) -> Finding {
    let nobody = DomainId(u32::MAX);
    let page = range(CODE, PAGE_SIZE);
    expect(fixture.backend.window(nobody).is_err(), || "it has a window".to_owned())?;
    expect_equal("host range", fixture.backend.host_range(nobody, page), None)?;
    let assigned = fixture.backend.assign(nobody, page, Rights::READ);
    expect(assigned.is_err(), || "it is given pages".to_owned())
}
