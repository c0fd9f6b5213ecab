//! Words of a text, the way the embedded store cuts them: at what is neither letter nor digit, and lowered.
//!
//! They are cut here, not by OpenSearch, so that both stores find the same whatever analysis modules a server has: what
//! is indexed are words with spaces between them, and the server only looks for the spaces.

/// Longest word that can be searched, in bytes; longer ones are left out.
const MAX_WORD: usize = 512;

/// The words of a text, with a space between them.
pub(crate) fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let parts = text.split(|c: char| !c.is_alphanumeric());
    for word in parts.filter(|word| (1..MAX_WORD).contains(&word.len())) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().flat_map(char::to_lowercase));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_what_is_neither_letter_nor_digit() {
        assert_eq!(words("kworker/0:1  Übel_tat 97.5"), "kworker 0 1 übel tat 97 5");
        assert_eq!(words(" -- "), "");
        assert_eq!(words(&format!("a {} b", "x".repeat(600))), "a b");
    }
}
