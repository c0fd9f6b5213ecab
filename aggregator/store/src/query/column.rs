//! Wildcards in a field that is a column alone.
//!
//! A name that every event has for itself is a dear term: the values of such a field are only in its column. Its
//! dictionary is looked through first, so that events are only looked at in segments that have a value that matches.

use tantivy::{
    BitSet, DocId, Score, SegmentReader, TantivyError,
    query::{BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight},
};

use super::parse::Wild;

/// Events whose value of a column matches a pattern.
#[derive(Debug, Clone)]
pub(super) struct Matches {
    pub(super) column: &'static str,
    pub(super) pattern: Vec<Wild>,
}

impl Query for Matches {
    fn weight(&self, _scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Matches {
    fn scorer(&self, segment: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let Some(column) = segment.fast_fields().str(self.column)? else { return Ok(Box::new(EmptyScorer)) };
        let mut matching = vec![false; column.num_terms()];
        let mut values = column.dictionary().stream()?;
        while values.advance() {
            let matches = str::from_utf8(values.key()).is_ok_and(|value| matches(&self.pattern, value));
            if let Some(slot) = matching.get_mut(values.term_ord() as usize) {
                *slot = matches;
            }
        }
        if !matching.contains(&true) {
            return Ok(Box::new(EmptyScorer));
        }
        let mut documents = BitSet::with_max_value(segment.max_doc());
        for document in 0..segment.max_doc() {
            if column.term_ords(document).any(|ord| matching.get(ord as usize) == Some(&true)) {
                documents.insert(document);
            }
        }
        Ok(Box::new(ConstScorer::new(BitSetDocSet::from(documents), boost)))
    }

    fn explain(&self, _segment: &SegmentReader, _document: DocId) -> tantivy::Result<Explanation> {
        Err(TantivyError::InvalidArgument("a match of a column has no score".into()))
    }
}

/// Whether a pattern matches all of a text. Takes no longer than the product of their lengths.
fn matches(pattern: &[Wild], text: &str) -> bool {
    let (mut pattern, mut text) = (pattern, text.chars());
    // Where to go on if the last `*` has to take one character more.
    let mut retry = None;
    loop {
        match pattern.split_first() {
            Some((Wild::Any, rest)) => {
                retry = Some((rest, text.clone()));
                pattern = rest;
                continue;
            }
            Some((piece, rest)) => {
                let fits = text.next().is_some_and(|c| *piece == Wild::One || *piece == Wild::Char(c));
                if fits {
                    pattern = rest;
                    continue;
                }
            }
            None if text.as_str().is_empty() => return true,
            None => {}
        }
        let Some((after, mut longer)) = retry.take() else { return false };
        if longer.next().is_none() {
            return false;
        }
        (pattern, text) = (after, longer.clone());
        retry = Some((after, longer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        let pattern = |text: &str| -> Vec<Wild> {
            let piece = |c| match c {
                '*' => Wild::Any,
                '?' => Wild::One,
                c => Wild::Char(c),
            };
            text.chars().map(piece).collect()
        };
        for (wild, text, expected) in [
            ("0193*", "0193-a", true),
            ("*-a", "0193-a", true),
            ("*3?a", "0193-a", true),
            ("0*-*é", "0193-aé-é", true),
            ("0*-*é", "0193-aé-e", false),
            ("??", "éa", true),
            ("??", "é", false),
            ("a", "ab", false),
            ("*", "", true),
            ("", "", true),
            ("*a*b*c*d", "abcabcabcabc", false),
        ] {
            assert_eq!(matches(&pattern(wild), text), expected, "{wild} {text}");
        }
    }
}
