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

/// An address without its user and password, and these, decoded.
pub fn credentials(address: &str) -> Option<(String, String, String)> {
    let range = user_info(address).filter(|_| is_address(address))?;
    let said = &address[range.start..range.end - 1];
    let (user, password) = said.split_once(':').unwrap_or((said, ""));
    let bare = address[..range.start].to_owned() + &address[range.end..];
    Some((bare, decoded(user), decoded(password)))
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An address without user, password and query: what may be kept and shown.
pub fn without_secrets(address: &str) -> String {
    let (place, part) = address.split_at(address.find('#').unwrap_or(address.len()));
    let mut shown = place.split('?').next().unwrap_or_default().to_owned() + part;
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
        assert_eq!(without_secrets(whole), "https://host.example:8080/at@home#part");
        assert_eq!(masked(whole.into()), "https://xxxxx:xxxxx@host.example:8080/at@home?token=1#part");
        for plain in ["http://host/at@home", "host", ""] {
            assert_eq!((without_secrets(plain), masked(plain.into())), (plain.to_owned(), plain.to_owned()));
        }
        let parts = |bare: &str, user: &str, word: &str| Some((bare.to_owned(), user.to_owned(), word.to_owned()));
        assert_eq!(credentials("http://me:a%40%zz:b@host/x"), parts("http://host/x", "me", "a@%zz:b"));
        assert_eq!(credentials("https://token@host"), parts("https://host", "token", ""));
        assert!(credentials("ssh://me@host/x").is_none() && credentials("http://host/@").is_none());
        assert_eq!(without_secrets("git@host.example:a/b"), "git@host.example:a/b");
        assert_eq!(masked("me:word@proxy:3128".into()), "xxxxx:xxxxx@proxy:3128");
    }
}
