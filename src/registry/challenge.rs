//! `WWW-Authenticate`: what a registry wants before it answers (RFC 9110, section 11).

/// One way in that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from elsewhere.
    Bearer {
        /// Where to get it.
        realm: String,
        /// For whom.
        service: String,
        /// For what.
        scope: String,
    },
}

/// Reads the headers of one answer; a header may hold several challenges. Schemes that are not known are left out.
pub fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    headers.flat_map(parse_one).collect()
}

fn parse_one(header: &str) -> Vec<Challenge> {
    let mut raw: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (word, after) = split_word(rest);
        if word.is_empty() {
            // Nothing that belongs here; what was understood so far counts.
            break;
        }
        let value = after.trim_start();
        match value.strip_prefix('=') {
            Some(value) if !raw.is_empty() => {
                let (value, after) = split_value(value.trim_start());
                if let Some((_, parameters)) = raw.last_mut() {
                    parameters.push((word.to_lowercase(), value));
                }
                rest = after;
            }
            _ => {
                raw.push((word.to_lowercase(), Vec::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    raw.into_iter().filter_map(|(scheme, parameters)| meaning(&scheme, &parameters)).collect()
}

fn meaning(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |key: &str| parameters.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()).unwrap_or_default();
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" if !get("realm").is_empty() => {
            Some(Challenge::Bearer { realm: get("realm"), service: get("service"), scope: get("scope") })
        }
        _ => None,
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = split_word(text);
        return (word.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_challenges_and_quoted_commas() {
        let header = r#"Negotiate, bearer realm="https://auth.example/t?a=1,2",service="a \"b\"", scope="repository:a/b:pull,push" , Basic realm=x"#;
        let found = parse([header].into_iter());
        assert_eq!(
            found,
            [
                Challenge::Bearer {
                    realm: "https://auth.example/t?a=1,2".into(),
                    service: "a \"b\"".into(),
                    scope: "repository:a/b:pull,push".into()
                },
                Challenge::Basic
            ]
        );
        assert_eq!(parse(["Basic", "Bearer scope=x"].into_iter()), [Challenge::Basic]);
        assert!(parse([""].into_iter()).is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = parse([text.as_str()].into_iter());
        }
    }
}
