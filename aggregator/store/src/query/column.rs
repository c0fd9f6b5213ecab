//! Wildcards in a field that is a column alone.
//!
//! A name that every event has for itself is a dear term: the values of such a field are only in its column. Its
//! dictionary is looked through first, so that events are only looked at in segments that have a value that matches.
//! Both are long where events are many, so both watch the deadline of the search.

use std::{io, time::Instant};

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
    /// Of the search.
    pub(super) end: Instant,
}

/// Values or events between two looks at the clock.
const LOOK_EVERY: usize = 4096;

/// The deadline passed. Goes through the engine in its own error.
#[derive(Debug, thiserror::Error)]
#[error("the deadline of the search has passed")]
struct Late;

/// Whether an error of the engine says that the deadline passed.
pub(crate) fn is_late(error: &TantivyError) -> bool {
    matches!(error, TantivyError::IoError(error) if error.get_ref().is_some_and(|inner| inner.is::<Late>()))
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
        let mut seen = 0;
        while values.advance() {
            self.look(seen)?;
            seen += 1;
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
            self.look(document as usize)?;
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

impl Matches {
    /// Looks at the clock now and then.
    fn look(&self, seen: usize) -> tantivy::Result<()> {
        if seen.is_multiple_of(LOOK_EVERY) && Instant::now() >= self.end {
            return Err(io::Error::other(Late).into());
        }
        Ok(())
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
    use std::time::Duration;

    use tantivy::{
        Index, doc,
        schema::{FAST, Schema},
    };

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

    #[test]
    fn a_search_without_time_left_ends_before_its_first_match() {
        let mut schema = Schema::builder();
        let field = schema.add_text_field("name", FAST);
        let index = Index::create_in_ram(schema.build());
        let mut writer = index.writer_with_num_threads(1, 15 << 20).unwrap();
        writer.add_document(doc!(field => "0193-run")).unwrap();
        writer.commit().unwrap();
        let searcher = index.reader().unwrap().searcher();
        let scorer = |pattern, end| {
            let matches = Matches { column: "name", pattern, end };
            matches.scorer(searcher.segment_reader(0), 1.0).map(|scorer| scorer.doc())
        };
        let now = Instant::now();
        // Whether it ends while it looks through the values, or would after them.
        for pattern in [vec![Wild::Any], vec![Wild::Char('x'), Wild::Any]] {
            let error = scorer(pattern, now).unwrap_err();
            assert!(is_late(&error), "{error}");
        }
        assert_eq!(scorer(vec![Wild::Any], now + Duration::from_secs(3600)).unwrap(), 0);
        assert!(!is_late(&io::Error::from(io::ErrorKind::TimedOut).into()), "a disk that is late is another matter");
    }
}
