//! Errors in words.

use anyhow::Error;

/// The whole chain in one line, the system's errors in the words of the manual pages.
pub fn chain(error: &Error) -> String {
    let words: Vec<String> = error.chain().map(|cause| number(cause).map_or_else(|| cause.to_string(), text)).collect();
    words.join(": ")
}

/// The system's error number in a chain, if one was the cause.
pub fn errno(error: &Error) -> Option<i32> {
    error.chain().find_map(number)
}

fn number(cause: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    io.or_else(|| cause.downcast_ref::<nix::Error>().map(|e| *e as i32))
}

fn text(errno: i32) -> String {
    let words = nix::errno::Errno::from_raw(errno).desc();
    let mut letters = words.chars();
    // Not where a name begins, as in "RFS specific error".
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(words.chars().skip(1)).collect()
        }
        _ => words.to_owned(),
    }
}

/// `text` with its control characters as escapes, so that a hostile name cannot drive the terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, and those that turn the direction of the text after them.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io;

    #[test]
    fn a_chain_reads_like_a_sentence() {
        let error = Err::<(), _>(io::Error::from_raw_os_error(libc::ENOENT)).context("open /x").context("begin");
        assert_eq!(chain(&error.unwrap_err()), "begin: open /x: no such file or directory");
    }
}
