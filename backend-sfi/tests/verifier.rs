//! The verifier on fragments written by hand: those it must admit, those it must refuse and why, and what it
//! remembers of the ones it admitted.

#[path = "verifier/cases.rs"]
mod cases;

use cases::{CACHE, Case, OTHER, OTHER_BYTES, PLACE, layout, verifier};
use endo_sfi::verify::{Claims, Layout, Reason, Refusal, Verifier};

const PASS: &str = include_str!("verifier/pass.txt");
const FAIL: &str = include_str!("verifier/fail.txt");

fn admit(case: &Case) -> (Verifier, Result<(), Refusal>) {
    let mut verifier = verifier(Layout { returns: case.returns, ..layout() });
    let result = verifier.admit(PLACE, &case.bytes, &Claims { indirect_entries: &case.indirect_entries });
    (verifier, result)
}

/// The variant of a reason, without its values.
fn variant(reason: Reason) -> String {
    format!("{reason:?}").split('(').next().unwrap_or_default().into()
}

#[test]
fn every_pass_case_is_admitted() {
    let cases = cases::parse(PASS);
    assert!(cases.len() >= 40);
    for case in cases {
        let (verifier, result) = admit(&case);
        assert_eq!(result, Ok(()), "{}", case.name);
        assert!(verifier.is_boundary(PLACE), "{}", case.name);
        for entry in case.indirect_entries {
            assert!(verifier.may_enter_indirectly(PLACE + u64::from(entry)), "{}", case.name);
        }
    }
}

#[test]
fn every_fail_case_is_refused_for_its_reason() {
    let cases = cases::parse(FAIL);
    assert!(cases.len() >= 80);
    for case in cases {
        let (_, result) = admit(&case);
        let refusal = result.expect_err(&case.name);
        assert_eq!(Some(variant(refusal.reason)), case.reason, "{}: {refusal}", case.name);
        if let Some(marked) = case.marked {
            assert_eq!(refusal.offset, marked, "{}: {refusal}", case.name);
        }
    }
}

#[test]
fn a_refused_fragment_leaves_no_trace() {
    for case in cases::parse(FAIL) {
        let (mut verifier, _) = admit(&case);
        for address in PLACE..PLACE + case.bytes.len() as u64 {
            assert!(!verifier.is_boundary(address), "{}", case.name);
            assert!(!verifier.may_enter_indirectly(address), "{}", case.name);
            assert!(!verifier.may_link(address, OTHER), "{}", case.name);
        }
        assert_eq!(verifier.admit(PLACE, &OTHER_BYTES, &Claims::default()), Ok(()), "{}", case.name);
    }
}

#[test]
fn a_refusal_says_where_and_why() {
    let (_, result) = admit(&Case { bytes: vec![0x90, 0x48, 0x89, 0x07], ..Case::default() });
    let text = result.expect_err("an unguarded store").to_string();
    assert_eq!(text, "refused at offset 0x1 (48 89 07): memory operand without a 32-bit address");
}

#[test]
fn a_fragment_is_inside_the_cache_and_covers_no_gate() {
    let mut verifier = verifier(layout());
    let end = layout().cache.end;
    let mut at =
        |address, bytes: &[u8]| verifier.admit(address, bytes, &Claims::default()).map_err(|r| r.reason);
    assert_eq!(at(PLACE, &[]), Err(Reason::Empty));
    assert_eq!(at(0x40_0000, &OTHER_BYTES), Err(Reason::OutsideCache));
    assert_eq!(at(CACHE - 1, &OTHER_BYTES), Err(Reason::OutsideCache));
    assert_eq!(at(end - 14, &OTHER_BYTES), Err(Reason::OutsideCache));
    assert_eq!(at(u64::MAX, &OTHER_BYTES), Err(Reason::OutsideCache));
    assert_eq!(at(layout().gates.syscall - 14, &OTHER_BYTES), Err(Reason::OutsideCache));
    // Returns without an entry arrive before the miss gate.
    assert_eq!(at(layout().gates.miss - 16, &OTHER_BYTES), Err(Reason::OutsideCache));
    assert_eq!(at(layout().gates.miss - 4 - 15, &OTHER_BYTES), Ok(()));
    assert_eq!(at(end - 15, &OTHER_BYTES), Ok(()));
}

#[test]
fn live_fragments_do_not_overlap() {
    let mut verifier = verifier(layout());
    let mut at = |address| verifier.admit(address, &OTHER_BYTES, &Claims::default()).map_err(|r| r.reason);
    assert_eq!(at(OTHER), Err(Reason::Occupied));
    assert_eq!(at(OTHER + 14), Err(Reason::Occupied));
    assert_eq!(at(OTHER - 14), Err(Reason::Occupied));
    assert_eq!(at(OTHER + 15), Ok(()));
    assert_eq!(at(OTHER - 15), Ok(()));
}

#[test]
fn only_the_aligned_displacement_of_a_near_branch_may_be_linked() {
    let mut verifier = verifier(layout());
    // je rel32; jmp rel32, both to the link gate.
    let bytes = near_branches_to(layout().gates.link);
    verifier.admit(PLACE, &bytes, &Claims::default()).expect("two exits");
    let sites: Vec<u64> = (PLACE..PLACE + 11).filter(|&site| verifier.may_link(site, OTHER)).collect();
    // That of the jump, at PLACE + 7, reaches over an eight-byte border: it could not be changed by one store.
    assert_eq!((PLACE % 8, sites.as_slice()), (0, [PLACE + 2].as_slice()));
}

#[test]
fn a_link_leads_to_a_boundary_or_back_to_an_exit() {
    let mut verifier = verifier(layout());
    verifier.admit(PLACE, &near_branches_to(layout().gates.link), &Claims::default()).expect("two exits");
    let site = PLACE + 2;
    let gates = layout().gates;
    assert!(verifier.may_link(site, OTHER));
    assert!(verifier.may_link(site, OTHER + 10));
    assert!(verifier.may_link(site, PLACE + 6));
    assert!(verifier.may_link(site, gates.link));
    assert!(!verifier.may_link(site, gates.syscall));
    assert!(!verifier.may_link(site, OTHER + 1));
    assert!(!verifier.may_link(site, OTHER + 15));
    assert!(!verifier.may_link(site, 0x40_0000));
}

#[test]
fn the_jump_of_a_system_call_is_no_link_site() {
    let case = named(PASS, "a system call and what follows it");
    let (verifier, _) = admit(&case);
    let sites: Vec<u64> =
        (PLACE..PLACE + case.bytes.len() as u64).filter(|&site| verifier.may_link(site, OTHER)).collect();
    assert_eq!(sites, [PLACE + case.bytes.len() as u64 - 4]);
}

#[test]
fn nothing_leads_into_a_sequence() {
    let boundaries = |name| {
        let case = named(PASS, name);
        let (verifier, _) = admit(&case);
        (0..case.bytes.len()).filter(|&at| verifier.is_boundary(PLACE + at as u64)).collect::<Vec<_>>()
    };
    // mov edi, edi; mov esi, esi; rep movsb; mov esi, esi; mov edi, edi; rep movsq; …
    assert_eq!(boundaries("string moves and compares with both confined, in either order"), [0, 6, 13, 19]);
    assert_eq!(boundaries("leave with a confined rbp"), [0, 3]);
    assert_eq!(boundaries("a system call and what follows it"), [0, 12, 15]);
    // mov fs:[spill], r11; mov r11d, eax; push; jmp
    assert_eq!(boundaries("an indirect call that pushes its return address"), [0, 9]);
    assert_eq!(boundaries("other ways to write r11d"), [0, 13, 26]);
    assert_eq!(boundaries("an unused confinement may be branched to"), [0, 2, 5]);
}

#[test]
fn the_dispatch_table_holds_indirect_entries_and_the_miss_gate() {
    let (verifier, _) = admit(&named(PASS, "an indirect entry in the middle"));
    let allowed: Vec<u64> =
        (CACHE..CACHE + 0x4000).filter(|&target| verifier.may_enter_indirectly(target)).collect();
    assert_eq!(allowed, [layout().gates.miss, PLACE + 6]);
}

#[test]
fn a_retired_fragment_is_forgotten_and_its_place_free() {
    let mut verifier = verifier(layout());
    let bytes = near_branches_to(OTHER);
    verifier.admit(PLACE, &bytes, &Claims::default()).expect("branches to a live fragment");
    verifier.retire(OTHER..OTHER + 15);
    assert!(!verifier.is_boundary(OTHER));
    assert!(!verifier.may_link(PLACE + 2, OTHER));
    assert!(verifier.is_boundary(PLACE), "its neighbour stays");
    let refusal =
        verifier.admit(PLACE + 0x100, &near_branches_to_from(OTHER, PLACE + 0x100), &Claims::default());
    assert_eq!(refusal.map_err(|r| r.reason), Err(Reason::BranchTarget(OTHER)));
    assert_eq!(verifier.admit(OTHER + 3, &OTHER_BYTES, &Claims::default()), Ok(()));
}

#[test]
fn a_cleared_cache_is_empty() {
    let mut verifier = verifier(layout());
    verifier.clear();
    assert!(!verifier.is_boundary(OTHER));
    assert_eq!(verifier.admit(OTHER, &OTHER_BYTES, &Claims::default()), Ok(()));
}

#[test]
fn fragments_may_branch_to_each_others_boundaries_only_once_live() {
    let mut verifier = Verifier::new(layout());
    let bytes = near_branches_to(OTHER);
    let early = verifier.admit(PLACE, &bytes, &Claims::default()).map_err(|r| r.reason);
    assert_eq!(early, Err(Reason::BranchTarget(OTHER)));
    verifier.admit(OTHER, &OTHER_BYTES, &Claims::default()).expect("the other fragment");
    assert_eq!(verifier.admit(PLACE, &bytes, &Claims::default()), Ok(()));
}

fn named(text: &str, name: &str) -> Case {
    cases::parse(text).into_iter().find(|case| case.name == name).expect("a case of that name")
}

fn near_branches_to(target: u64) -> Vec<u8> {
    near_branches_to_from(target, PLACE)
}

/// `je target; jmp target` at `place`.
fn near_branches_to_from(target: u64, place: u64) -> Vec<u8> {
    let mut bytes = vec![0x0f, 0x84];
    bytes.extend((target.wrapping_sub(place + 6) as u32).to_le_bytes());
    bytes.push(0xe9);
    bytes.extend((target.wrapping_sub(place + 11) as u32).to_le_bytes());
    bytes
}
