//! The profile in the pprof format.
//!
//! Addresses within a file are given as offsets in it, and its mapping begins at 0, so that one function of several
//! processes is one location wherever it was loaded.

use std::{
    collections::HashMap,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use galen_proto::pprof::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use prost::Message;

use crate::{
    collector::Stack,
    processes::Place,
    symbols::{Origin, Symbols},
};

pub(crate) struct Header {
    pub(crate) started: SystemTime,
    pub(crate) lasted: Duration,
    /// Nanoseconds of CPU that a sample stands for.
    pub(crate) period: i64,
    pub(crate) comments: Vec<String>,
}

/// # Errors
/// None in practice: it writes to memory.
pub(crate) fn encode(
    header: &Header,
    places: &[Place],
    stacks: &[(Stack, u64)],
    symbols: &Symbols,
) -> io::Result<Bytes> {
    let profile = build(header, places, stacks, symbols);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(5));
    gzip.write_all(&profile.encode_to_vec())?;
    Ok(gzip.finish()?.into())
}

fn build(header: &Header, places: &[Place], stacks: &[(Stack, u64)], symbols: &Symbols) -> Profile {
    let mut texts = Texts::default();
    texts.index("");
    let samples_count = ValueType { r#type: texts.index("samples"), unit: texts.index("count") };
    let cpu_nanoseconds = ValueType { r#type: texts.index("cpu"), unit: texts.index("nanoseconds") };
    let (pid, comm) = (texts.index("pid"), texts.index("comm"));

    let mut mapping = vec![Mapping {
        id: 1,
        memory_limit: u64::MAX,
        filename: texts.index("[kernel.kallsyms]"),
        has_functions: true,
        ..Mapping::default()
    }];
    for file in &symbols.files {
        mapping.push(Mapping {
            id: mapping.len() as u64 + 1,
            memory_limit: u64::MAX,
            filename: texts.index(&file.path),
            build_id: texts.index(&file.build_id),
            has_functions: true,
            ..Mapping::default()
        });
    }
    let function = symbols
        .functions()
        .iter()
        .zip(1..)
        .map(|(function, id)| {
            let name = texts.index(&function.name);
            let filename = match function.origin {
                Origin::File(file) => texts.index(&symbols.files[file as usize].path),
                Origin::Kernel | Origin::Nowhere => 0,
            };
            Function { id, name, system_name: name, filename, start_line: 0 }
        })
        .collect();
    let location = places
        .iter()
        .zip(0..)
        .map(|(place, number)| Location {
            id: u64::from(number) + 1,
            mapping_id: match symbols.origin(number) {
                Origin::Kernel => 1,
                Origin::File(file) => u64::from(file) + 2,
                Origin::Nowhere => 0,
            },
            address: match place {
                Place::Kernel(address) => *address,
                Place::File { offset, .. } => *offset,
                _ => 0,
            },
            line: vec![Line { function_id: u64::from(symbols.function_of(number)) + 1, line: 0, column: 0 }],
            is_folded: false,
        })
        .collect();
    let sample = stacks
        .iter()
        .map(|(stack, samples)| {
            let samples = i64::try_from(*samples).unwrap_or(i64::MAX);
            Sample {
                location_id: stack.frames.iter().map(|place| u64::from(*place) + 1).collect(),
                value: vec![samples, samples.saturating_mul(header.period)],
                label: vec![
                    Label { key: comm, str: texts.index(&stack.comm.text()), ..Label::default() },
                    Label { key: pid, num: i64::from(stack.tgid), ..Label::default() },
                ],
            }
        })
        .collect();
    let comment = header.comments.iter().map(|comment| texts.index(comment)).collect();
    Profile {
        sample_type: vec![samples_count, cpu_nanoseconds],
        sample,
        mapping,
        location,
        function,
        string_table: texts.table,
        time_nanos: header
            .started
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)),
        duration_nanos: i64::try_from(header.lasted.as_nanos()).unwrap_or(i64::MAX),
        period_type: Some(cpu_nanoseconds),
        period: header.period,
        comment,
        default_sample_type: cpu_nanoseconds.r#type,
        ..Profile::default()
    }
}

#[derive(Default)]
struct Texts {
    table: Vec<String>,
    known: HashMap<String, i64>,
}

impl Texts {
    fn index(&mut self, text: &str) -> i64 {
        if let Some(index) = self.known.get(text) {
            return *index;
        }
        let index = i64::try_from(self.table.len()).unwrap_or_default();
        self.table.push(text.to_owned());
        self.known.insert(text.to_owned(), index);
        index
    }
}
