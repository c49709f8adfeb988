//! What somebody may have meant.

/// ` (did you mean X?)` if one of the candidates is close to `word`, else nothing.
pub fn suggestion(word: &str, candidates: &[&str]) -> String {
    // Nobody means anything by a word that is longer than all of them.
    if word.len() > 64 {
        return String::new();
    }
    let limit = if word.len() < 4 { 1 } else { word.len() / 3 + 1 };
    let ranked = candidates.iter().map(|candidate| (distance(word, candidate), candidate));
    match ranked.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance) {
        Some((_, candidate)) => format!(" (did you mean {candidate}?)"),
        None => String::new(),
    }
}

/// Insertions, deletions and replacements from one word to the other, letter case aside.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
