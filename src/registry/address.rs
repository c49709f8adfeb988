//! Addresses of the web as they may be shown and kept: who asks, and with what password, is nobody else's business.

use std::ops::Range;

/// Whether a source is an address of the web.
pub fn is_address(text: &str) -> bool {
    ["http://", "https://"].iter().any(|start| text.starts_with(start))
}

/// Where an address says who asks: a user and a password, with the `@` behind them.
fn user_info(address: &str) -> Option<Range<usize>> {
    let start = address.find("://").map_or(0, |at| at + "://".len());
    let host = address[start..].split(['/', '?', '#']).next()?;
    Some(start..start + host.rfind('@')? + 1)
}

/// An address without user, password and query: what may be kept and shown.
pub fn without_secrets(address: &str) -> String {
    let mut shown = address.split(['?', '#']).next().unwrap_or_default().to_owned();
    // `git@host:path` tells no secret, and is nothing without its user.
    if let Some(range) = user_info(&shown).filter(|_| shown.contains("://")) {
        shown.replace_range(range, "");
    }
    shown
}

/// An address with its user and password made unreadable, as Docker does it.
pub fn masked(mut address: String) -> String {
    if let Some(range) = user_info(&address) {
        address.replace_range(range, "xxxxx:xxxxx@");
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        let whole = "https://me:a@word@host.example:8080/at@home?token=1#part";
        assert_eq!(without_secrets(whole), "https://host.example:8080/at@home");
        assert_eq!(masked(whole.into()), "https://xxxxx:xxxxx@host.example:8080/at@home?token=1#part");
        for plain in ["http://host/at@home", "host", ""] {
            assert_eq!((without_secrets(plain), masked(plain.into())), (plain.to_owned(), plain.to_owned()));
        }
        assert_eq!(without_secrets("git@host.example:a/b"), "git@host.example:a/b");
        assert_eq!(masked("me:word@proxy:3128".into()), "xxxxx:xxxxx@proxy:3128");
    }
}
