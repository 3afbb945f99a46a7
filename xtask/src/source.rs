//! Rust source without its comments and literals.

/// The text with every character of a comment, string or character literal replaced by a space, so that what is left
/// is code, at the same lines and columns.
pub(crate) fn code_only(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let end = skipped_until(&characters, at);
        if end == at {
            code.push(characters[at]);
            at += 1;
        } else {
            code.extend(characters[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// The words of a text of code, each with the line it stands in, counted from 1.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        line.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()).map(move |word| (index + 1, word))
    })
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none does.
fn skipped_until(text: &[char], at: usize) -> usize {
    let rest = &text[at..];
    let in_word = at > 0 && is_word(text[at - 1]);
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => at + block_comment(rest),
        ['"', ..] => at + quoted(rest, '"'),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => at + quoted(rest, '\''),
        ['r', '"' | '#', ..] if !in_word => at + raw_string(rest, 1),
        ['b' | 'c', 'r', '"' | '#', ..] if !in_word => at + raw_string(rest, 2),
        _ => at,
    }
}

fn block_comment(text: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match &text[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

fn quoted(text: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The length of the raw string whose prefix has `prefix` letters; 0 if it is a raw identifier (`r#type`).
fn raw_string(text: &[char], prefix: usize) -> usize {
    let hashes = text[prefix..].iter().take_while(|&&c| c == '#').count();
    let mut at = prefix + hashes;
    if text.get(at) != Some(&'"') {
        return 0;
    }
    at += 1;
    while at < text.len() {
        if text[at] == '"' && text[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(text: &str) -> Vec<String> {
        words(&code_only(text)).map(|(_, word)| word.to_owned()).collect()
    }

    #[test]
    fn comments_are_no_code() {
        assert_eq!(words_of("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
    }

    #[test]
    fn strings_are_no_code() {
        assert_eq!(words_of(r##"a "b \" c" d r#"e " f"# g b"h" i br"j" k"##), ["a", "d", "g", "b", "i", "k"]);
    }

    #[test]
    fn a_raw_identifier_is_code() {
        assert_eq!(words_of("r#type r"), ["r", "type", "r"]);
    }

    #[test]
    fn a_quote_character_opens_no_string() {
        assert_eq!(words_of(r#"a '"' b '\'' c '\\' d"#), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_lifetime_is_no_character() {
        assert_eq!(words_of("fn f<'a>(x: &'a str, y: &'static str) {}").last().unwrap(), "str");
    }

    #[test]
    fn words_know_their_lines() {
        let code = code_only("one /* \n */ two\n\nthree");
        assert_eq!(words(&code).collect::<Vec<_>>(), [(1, "one"), (2, "two"), (4, "three")]);
    }
}
