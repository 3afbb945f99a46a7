//! A static library with one member, as ar(5) describes it: rustc takes no bare object file.

/// The archive. `name` has to be shorter than 16 bytes.
pub(crate) fn with_one_member(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    // Name, time, owner, group, mode, length, end of header; all padded with blanks. Nothing in it depends on the day.
    let header = format!(
        "{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
        format!("{name}/"),
        0,
        0,
        0,
        "100644",
        contents.len()
    );
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(contents);
    if archive.len() % 2 == 1 {
        archive.push(b'\n');
    }
    archive
}
