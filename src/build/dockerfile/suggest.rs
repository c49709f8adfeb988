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

/// Insertions, deletions, replacements and swaps of neighbours from one word to the other, letter case aside.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    table[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        table[i][0] = i;
        for j in 1..=b.len() {
            let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            table[i][j] = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                table[i][j] = table[i][j].min(table[i - 2][j - 2] + 1);
            }
        }
    }
    table[a.len()][b.len()]
}
