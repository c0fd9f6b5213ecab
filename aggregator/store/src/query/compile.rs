//! From an expression to what the engine runs.

use std::{ops::Bound as Edge, time::Instant};

use galen_proto::v1::EventId;
use tantivy::{
    Term,
    query::{
        AllQuery, BooleanQuery, EmptyQuery, ExistsQuery, Occur, PhraseQuery, Query, RangeQuery, RegexQuery, TermQuery,
    },
    schema::{Field, IndexRecordOption},
};

use super::{
    Error,
    column::Matches,
    fields::{Kind, Target, resolve_at},
    parse::{Bound, Expression, Name, Value, Wild},
    time,
};
use crate::schema::{FIELDS, RUN_ID, WORDS, tokenizers};

type Compiled = Box<dyn Query>;

/// Least severe first.
static SEVERITIES: [&str; 4] = ["unknown", "info", "warning", "critical"];

pub(super) struct Compiler {
    /// Nanoseconds since 1970-01-01 UTC.
    pub(super) now: i64,
    /// Of the search.
    pub(super) end: Instant,
}

impl Compiler {
    pub(super) fn compile(&self, expression: &Expression) -> Result<Compiled, Error> {
        Ok(match expression {
            Expression::Everything => Box::new(AllQuery),
            Expression::Not(inner) => all(vec![(Occur::MustNot, self.compile(inner)?)]),
            Expression::Any(branches) => {
                let branches = branches.iter().map(|branch| self.compile(branch));
                any(branches.collect::<Result<_, _>>()?)
            }
            Expression::All(parts) => {
                let part = |part: &Expression| match part {
                    Expression::Not(inner) => Ok((Occur::MustNot, self.compile(inner)?)),
                    other => Ok((Occur::Must, self.compile(other)?)),
                };
                all(parts.iter().map(part).collect::<Result<_, _>>()?)
            }
            Expression::Term { field: None, value, at } => self.anywhere(value, *at)?,
            Expression::Term { field: Some(name), value, at } => self.term(name, value, *at)?,
        })
    }

    fn term(&self, name: &Name, value: &Value, at: usize) -> Result<Compiled, Error> {
        if name.text == "_exists_" {
            let Value::Word { text, pattern: None } = value else {
                return Err(Error::new(at, "`_exists_` takes the name of a field"));
            };
            return exists(&resolve_at(&Name { text: text.clone(), at })?, at);
        }
        let target = resolve_at(name)?;
        if let Value::Word { pattern: Some(pattern), .. } = value
            && pattern.iter().all(|piece| *piece == Wild::Any)
        {
            return exists(&target, at);
        }
        if *value == Value::Range(Bound::Open, Bound::Open) {
            return exists(&target, at);
        }
        match target.kind {
            Kind::Keyword => self.keyword(target.field, value, at),
            Kind::Severity => severity(target.field, value, at),
            Kind::Words => words(target.field, None, value, at),
            Kind::Count => {
                range(value, at, "a whole number", |text| Some(Term::from_field_u64(target.field, text.parse().ok()?)))
            }
            Kind::Time => range(&whole_days(value), at, "a moment, such as 2026-11-22T10:00:00Z or now-15m", |text| {
                Some(Term::from_field_i64(target.field, time::parse(text, self.now)?))
            }),
            Kind::Id => id(value, at),
            Kind::Json | Kind::Keywords => json(&target, value, at),
        }
    }

    /// A term without a field.
    fn anywhere(&self, value: &Value, at: usize) -> Result<Compiled, Error> {
        if let Value::Word { pattern: Some(pattern), .. } = value
            && pattern.iter().all(|piece| *piece == Wild::Any)
        {
            return Ok(Box::new(AllQuery));
        }
        let container = &FIELDS.container;
        let names = [FIELDS.tracer, FIELDS.node, FIELDS.host.name, container.name, container.pod, container.namespace];
        let mut branches = vec![words(FIELDS.summary, None, value, at)?];
        for name in names {
            branches.push(self.keyword(name, value, at)?);
        }
        Ok(any(branches))
    }

    fn keyword(&self, field: Field, value: &Value, at: usize) -> Result<Compiled, Error> {
        match value {
            // Without terms the engine looks it up in the column.
            Value::Word { text, pattern: None } | Value::Phrase(text) => Ok(exact(Term::from_field_text(field, text))),
            Value::Word { pattern: Some(pattern), .. } if field == FIELDS.run_id => {
                Ok(Box::new(Matches { column: RUN_ID, pattern: pattern.clone(), end: self.end }))
            }
            Value::Word { pattern: Some(pattern), .. } => wild(field, "", pattern, false, at),
            Value::Range(..) => range(value, at, "text", |text| Some(Term::from_field_text(field, text))),
        }
    }
}

fn all(parts: Vec<(Occur, Compiled)>) -> Compiled {
    let positive = parts.iter().any(|(occur, _)| *occur == Occur::Must);
    let mut parts = parts;
    if !positive {
        parts.push((Occur::Must, Box::new(AllQuery)));
    }
    Box::new(BooleanQuery::new(parts))
}

fn any(mut branches: Vec<Compiled>) -> Compiled {
    match branches.pop() {
        Some(only) if branches.is_empty() => only,
        Some(last) => {
            branches.push(last);
            Box::new(BooleanQuery::union(branches))
        }
        None => Box::new(EmptyQuery),
    }
}

fn exact(term: Term) -> Compiled {
    Box::new(TermQuery::new(term, IndexRecordOption::Basic))
}

fn exists(target: &Target, at: usize) -> Result<Compiled, Error> {
    match target.kind {
        // Every event has them.
        Kind::Id => Ok(Box::new(AllQuery)),
        Kind::Words if target.field == FIELDS.summary => Ok(Box::new(
            RegexQuery::from_pattern(".+", target.field).map_err(|error| Error::new(at, error.to_string()))?,
        )),
        Kind::Json | Kind::Keywords => Ok(Box::new(ExistsQuery::new(target.name.clone(), true))),
        _ => Ok(Box::new(ExistsQuery::new(target.name.clone(), false))),
    }
}

fn severity(field: Field, value: &Value, at: usize) -> Result<Compiled, Error> {
    if let Value::Word { pattern: Some(pattern), .. } = value {
        return wild(field, "", pattern, false, at);
    }
    let severities = severities(value).map_err(|message| Error::new(at, message))?;
    Ok(any(severities.iter().map(|severity| exact(Term::from_field_text(field, severity))).collect()))
}

/// The severities that a value without wildcards, or a range, stands for.
///
/// # Errors
/// Says which text is not a severity.
pub fn severities(value: &Value) -> Result<&'static [&'static str], String> {
    let rank = |text: &str| {
        let known = SEVERITIES.iter().position(|severity| severity.eq_ignore_ascii_case(text));
        known.ok_or_else(|| format!("`{text}` is not a severity: info, warning or critical"))
    };
    let (lowest, behind) = match value {
        Value::Word { text, .. } | Value::Phrase(text) => (rank(text)?, rank(text)? + 1),
        Value::Range(lower, upper) => {
            let lowest = match lower {
                Bound::Open => 0,
                Bound::Included(text) => rank(text)?,
                Bound::Excluded(text) => rank(text)? + 1,
            };
            let behind = match upper {
                Bound::Open => SEVERITIES.len(),
                Bound::Included(text) => rank(text)? + 1,
                Bound::Excluded(text) => rank(text)?,
            };
            (lowest, behind)
        }
    };
    Ok(SEVERITIES.get(lowest..behind).unwrap_or_default())
}

/// Text that is cut into words, of a field or of what `below` leads to in it.
fn words(field: Field, below: Option<&Term>, value: &Value, at: usize) -> Result<Compiled, Error> {
    let term = |text: &str| match below {
        None => Term::from_field_text(field, text),
        Some(below) => {
            let mut term = below.clone();
            term.append_type_and_str(text);
            term
        }
    };
    match value {
        Value::Word { text, pattern: None } | Value::Phrase(text) => {
            let mut terms = Vec::new();
            if let Some(mut tokenizer) = tokenizers().get(WORDS) {
                tokenizer.token_stream(text).process(&mut |token| terms.push((token.position, term(&token.text))));
            }
            Ok(match terms.len() {
                0 => Box::new(EmptyQuery),
                1 => exact(terms.swap_remove(0).1),
                _ => Box::new(PhraseQuery::new_with_offset(terms)),
            })
        }
        Value::Word { pattern: Some(pattern), .. } => {
            let prefix = below.map(json_prefix).unwrap_or_default();
            wild(field, &prefix, pattern, true, at)
        }
        Value::Range(..) => range(value, at, "text", |text| Some(term(text))),
    }
}

fn json(target: &Target, value: &Value, at: usize) -> Result<Compiled, Error> {
    let Some(path) = &target.path else {
        let name = &target.name;
        return Err(Error::new(at, format!("`{name}` holds many values: name one, as in `{name}.user_percent`")));
    };
    // Columns are compared; terms are looked up.
    let below = Term::from_field_json_path(target.field, path, true);
    let keywords = target.kind == Kind::Keywords;
    let looked_up = if keywords { target.field } else { FIELDS.data_text };
    let terms = Term::from_field_json_path(looked_up, path, true);
    let text = |below: &Term, text: &str| {
        let mut term = below.clone();
        term.append_type_and_str(text);
        term
    };
    match value {
        Value::Word { text: word, pattern: None } | Value::Phrase(word) if keywords => Ok(exact(text(&terms, word))),
        Value::Word { pattern: Some(pattern), .. } if keywords => {
            wild(looked_up, &json_prefix(&terms), pattern, false, at)
        }
        Value::Word { text: word, pattern: None } => {
            let mut branches = vec![words(looked_up, Some(&terms), value, at)?];
            if let Some(numbers) = Numbers::of_text(word) {
                branches.push(range(value, at, "a number", |text| numbers.term(&below, text))?);
            }
            if let Ok(truth) = word.parse::<bool>() {
                let mut term = terms.clone();
                term.append_type_and_fast_value(truth);
                branches.push(exact(term));
            }
            Ok(any(branches))
        }
        Value::Range(lower, upper) => match Numbers::of([lower, upper]) {
            Some(numbers) if !keywords => range(value, at, "a number", |text| numbers.term(&below, text)),
            _ => range(value, at, "text", |bound| Some(text(&below, bound))),
        },
        _ => words(looked_up, Some(&terms), value, at),
    }
}

/// The type in which the engine compares numbers below a JSON field. Both ends of a range have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Numbers {
    I64,
    U64,
    F64,
}

impl Numbers {
    fn of(bounds: [&Bound; 2]) -> Option<Self> {
        let of = |bound: &Bound| match bound {
            Bound::Open => Some(Self::I64),
            Bound::Included(text) | Bound::Excluded(text) => Self::of_text(text),
        };
        let [lower, upper] = bounds.map(of);
        match (lower?, upper?) {
            // Not every number of the one is one of the other.
            (lower, upper) if lower != upper && lower.max(upper) == Self::U64 => Some(Self::F64),
            (lower, upper) => Some(lower.max(upper)),
        }
    }

    fn of_text(text: &str) -> Option<Self> {
        if text.parse::<i64>().is_ok() {
            Some(Self::I64)
        } else if text.parse::<u64>().is_ok() {
            Some(Self::U64)
        } else {
            text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|_| Self::F64)
        }
    }

    fn term(self, below: &Term, text: &str) -> Option<Term> {
        let mut term = below.clone();
        match self {
            Self::I64 => term.append_type_and_fast_value(text.parse::<i64>().ok()?),
            Self::U64 => term.append_type_and_fast_value(text.parse::<u64>().ok()?),
            Self::F64 => term.append_type_and_fast_value(text.parse::<f64>().ok()?),
        }
        Some(term)
    }
}

/// What comes before the text in the index's terms below a JSON field.
fn json_prefix(below: &Term) -> String {
    let mut term = below.clone();
    term.append_type_and_str("");
    let mut prefix = String::new();
    for c in String::from_utf8_lossy(term.serialized_value_bytes()).chars() {
        escape(c, &mut prefix);
    }
    prefix
}

/// A date is all of its day: up to it is up to its end, and after it is after that. The value as a range of moments.
#[must_use]
pub fn whole_days(value: &Value) -> Value {
    let end = |text: &str| time::day_after(text).map(|end| end.to_string());
    let lower = |bound: &Bound| match bound {
        Bound::Excluded(text) => end(text).map_or_else(|| bound.clone(), Bound::Included),
        _ => bound.clone(),
    };
    let upper = |bound: &Bound| match bound {
        Bound::Included(text) => end(text).map_or_else(|| bound.clone(), Bound::Excluded),
        _ => bound.clone(),
    };
    match value {
        Value::Range(from, to) => Value::Range(lower(from), upper(to)),
        Value::Word { text, pattern: None } | Value::Phrase(text) => {
            let day = Bound::Included(text.clone());
            Value::Range(day.clone(), upper(&day))
        }
        Value::Word { .. } => value.clone(),
    }
}

/// A range, or one value as a range of that value alone.
fn range(value: &Value, at: usize, expected: &str, term: impl Fn(&str) -> Option<Term>) -> Result<Compiled, Error> {
    let term = |text: &str| term(text).ok_or_else(|| Error::new(at, format!("`{text}` is not {expected}")));
    let edge = |bound: &Bound| {
        Ok(match bound {
            Bound::Open => Edge::Unbounded,
            Bound::Included(text) => Edge::Included(term(text)?),
            Bound::Excluded(text) => Edge::Excluded(term(text)?),
        })
    };
    let (lower, upper) = match value {
        Value::Range(lower, upper) => (edge(lower)?, edge(upper)?),
        Value::Word { text, pattern: None } | Value::Phrase(text) => {
            (Edge::Included(term(text)?), Edge::Included(term(text)?))
        }
        Value::Word { text, .. } => return Err(Error::new(at, format!("`{text}` is not {expected}"))),
    };
    Ok(Box::new(RangeQuery::new(lower, upper)))
}

fn id(value: &Value, at: usize) -> Result<Compiled, Error> {
    let text = match value {
        Value::Word { text, pattern: None } | Value::Phrase(text) => text,
        _ => return Err(Error::new(at, "`id` takes one event id, in the form node/epoch/seq")),
    };
    let id: EventId =
        text.parse().map_err(|error: galen_proto::ParseEventIdError| Error::new(at, error.to_string()))?;
    Ok(Box::new(by_id(&id)))
}

/// The one event with this identity.
pub(crate) fn by_id(id: &EventId) -> BooleanQuery {
    let seq = Term::from_field_u64(FIELDS.seq, id.seq);
    BooleanQuery::intersection(vec![
        // A column is enough: the other two leave few segments, and a number of its own for every event is a dear term.
        Box::new(RangeQuery::new(Edge::Included(seq.clone()), Edge::Included(seq))),
        exact(Term::from_field_text(FIELDS.epoch, &format!("{:016x}", id.epoch))),
        exact(Term::from_field_text(FIELDS.node, &id.node)),
    ])
}

fn wild(field: Field, prefix: &str, pattern: &[Wild], lower: bool, at: usize) -> Result<Compiled, Error> {
    let mut regex = prefix.to_owned();
    for piece in pattern {
        match piece {
            Wild::Any => regex.push_str("(.|\n)*"),
            Wild::One => regex.push_str("(.|\n)"),
            Wild::Char(c) if lower => c.to_lowercase().for_each(|c| escape(c, &mut regex)),
            Wild::Char(c) => escape(*c, &mut regex),
        }
    }
    let query = RegexQuery::from_pattern(&regex, field);
    Ok(Box::new(query.map_err(|_| Error::new(at, "too long for a text with wildcards"))?))
}

/// Appends a character to a regular expression, as itself.
fn escape(c: char, regex: &mut String) {
    if c.is_ascii_punctuation() {
        regex.push('\\');
        regex.push(c);
    } else if c.is_control() {
        regex.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
    } else {
        regex.push(c);
    }
}
