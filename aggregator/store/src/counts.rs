//! How often each value of a field occurs among the matches.

use std::collections::HashMap;

use tantivy::{
    SegmentReader,
    columnar::{Column, DynamicColumn, StrColumn},
};

use crate::{
    error::Error,
    query::fields::{Kind, Target, resolve},
};

/// Most values of an answer; the most frequent ones.
pub const MAX_VALUES: usize = 100;
/// Most different values that are counted.
const MAX_DISTINCT: usize = 100_000;

/// The values of one field, the most frequent first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// As it was asked for.
    pub field: String,
    /// At most 100. An event with several values counts for each.
    pub values: Vec<(String, u64)>,
}

pub(crate) struct Counter {
    field: String,
    severity_or_keyword: bool,
    columns: Vec<Open>,
    total: HashMap<String, u64>,
}

/// The field of this name, if its values can be counted.
///
/// # Errors
/// Says why they cannot.
pub fn countable(field: &str) -> Result<Target, Error> {
    let refused = |why| Err(Error::Count(field.to_owned(), why));
    let Ok(target) = resolve(field) else { return refused("there is no such field") };
    match target.kind {
        Kind::Id | Kind::Time => refused("nearly every event has its own"),
        Kind::Words if field == "summary" => refused("it is free text"),
        Kind::Json | Kind::Keywords if target.path.is_none() => refused("it holds many values: name one below it"),
        _ => Ok(target),
    }
}

struct Open {
    column: Values,
    counts: HashMap<u64, u64>,
}

enum Values {
    Text(StrColumn),
    Number(Column<u64>, fn(u64) -> String),
}

impl Counter {
    pub(crate) fn new(field: &str) -> Result<Self, Error> {
        let target = countable(field)?;
        Ok(Self {
            field: target.name,
            severity_or_keyword: !matches!(target.kind, Kind::Json | Kind::Count),
            columns: Vec::new(),
            total: HashMap::new(),
        })
    }

    /// Begins with a segment.
    pub(crate) fn enter(&mut self, segment: &SegmentReader) -> tantivy::Result<()> {
        self.columns.clear();
        for handle in segment.fast_fields().dynamic_column_handles(&self.field)? {
            let column = match handle.open()? {
                DynamicColumn::Str(column) => Values::Text(column),
                _ if self.severity_or_keyword => continue,
                DynamicColumn::Bool(column) => Values::Number(column.to_u64_monotonic(), |bit| (bit != 0).to_string()),
                DynamicColumn::I64(column) => {
                    Values::Number(column.to_u64_monotonic(), |number| ((number ^ (1 << 63)) as i64).to_string())
                }
                DynamicColumn::U64(column) => Values::Number(column, |number| number.to_string()),
                DynamicColumn::F64(column) => Values::Number(column.to_u64_monotonic(), |number| {
                    <f64 as tantivy::columnar::MonotonicallyMappableToU64>::from_u64(number).to_string()
                }),
                _ => continue,
            };
            self.columns.push(Open { column, counts: HashMap::new() });
        }
        Ok(())
    }

    pub(crate) fn count(&mut self, document: u32) -> Result<(), Error> {
        for Open { column, counts } in &mut self.columns {
            match column {
                Values::Text(column) => column.term_ords(document).for_each(|ord| *counts.entry(ord).or_insert(0) += 1),
                Values::Number(column, _) => {
                    column.values_for_doc(document).for_each(|value| *counts.entry(value).or_insert(0) += 1);
                }
            }
            if counts.len() > MAX_DISTINCT {
                return Err(Error::Count(self.field.clone(), "it has too many different values"));
            }
        }
        Ok(())
    }

    /// Ends with a segment.
    pub(crate) fn leave(&mut self) -> Result<(), Error> {
        for Open { column, counts } in self.columns.drain(..) {
            for (value, count) in counts {
                let mut text = String::new();
                match &column {
                    Values::Text(column) => {
                        column.ord_to_str(value, &mut text).map_err(Error::io("read values of", &self.field))?;
                    }
                    Values::Number(_, show) => text = show(value),
                }
                *self.total.entry(text).or_insert(0) += count;
            }
        }
        if self.total.len() > MAX_DISTINCT {
            return Err(Error::Count(self.field.clone(), "it has too many different values"));
        }
        Ok(())
    }

    /// The most frequent values.
    pub(crate) fn finish(self) -> Tally {
        let mut tally = self.finish_whole();
        tally.values.truncate(MAX_VALUES);
        tally
    }

    /// All values, which are many.
    pub(crate) fn finish_whole(self) -> Tally {
        let mut values: Vec<_> = self.total.into_iter().collect();
        values.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        Tally { field: self.field, values }
    }
}
