//! The stacks of a profile, each once.

use std::collections::{BTreeMap, HashMap};

use galen_proto::pprof::{Function, Location, Mapping, Profile};

/// Most frames of a stack; what is nearer to the root is left out.
const MAX_DEPTH: usize = 512;
/// Longest name of a frame, in bytes.
const MAX_NAME: usize = 512;

/// A stack, and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The root first.
    pub frames: Vec<String>,
    pub samples: u64,
}

/// All stacks, ordered by their frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Stacks {
    pub stacks: Vec<Stack>,
    pub samples: u64,
    /// Microseconds of CPU a second that a sample stands for; 1 where the profile does not tell.
    pub weight: f64,
}

impl Stacks {
    pub fn of(profile: &Profile) -> Self {
        let names = Names::of(profile);
        let value = names.samples_index(profile);
        let mut frames_of: HashMap<u64, Vec<String>> = HashMap::new();
        let mut stacks: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        for sample in &profile.sample {
            let count = sample.value.get(value).copied().and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
            if count == 0 || sample.location_id.is_empty() {
                continue;
            }
            let mut frames = Vec::new();
            for id in &sample.location_id {
                frames.extend_from_slice(frames_of.entry(*id).or_insert_with(|| names.location(*id)));
                if frames.len() > MAX_DEPTH {
                    frames.truncate(MAX_DEPTH);
                    break;
                }
            }
            frames.reverse();
            let samples = stacks.entry(frames).or_default();
            *samples = samples.saturating_add(count);
        }
        let stacks: Vec<_> = stacks.into_iter().map(|(frames, samples)| Stack { frames, samples }).collect();
        let samples = stacks.iter().fold(0, |sum: u64, stack| sum.saturating_add(stack.samples));
        let (period, duration) = (profile.period as f64, profile.duration_nanos as f64);
        let weight = if period > 0.0 && duration > 0.0 { period / duration * 1e6 } else { 1.0 };
        Self { stacks, samples, weight }
    }

    /// A stack a line: frames from the root, joined by `;`, a space, the number of samples.
    pub fn folded(&self) -> String {
        let mut text = String::new();
        for stack in &self.stacks {
            text.push_str(&stack.frames.join(";"));
            text.push(' ');
            text.push_str(&stack.samples.to_string());
            text.push('\n');
        }
        text
    }

    /// The stacks that were seen most often, these first.
    pub fn hottest(&self, count: usize) -> Vec<&Stack> {
        let mut stacks: Vec<_> = self.stacks.iter().collect();
        stacks.sort_by(|a, b| b.samples.cmp(&a.samples).then_with(|| a.frames.cmp(&b.frames)));
        stacks.truncate(count);
        stacks
    }

    /// Frames of the deepest stack.
    pub fn depth(&self) -> usize {
        self.stacks.iter().map(|stack| stack.frames.len()).max().unwrap_or(0)
    }
}

struct Names<'a> {
    texts: &'a [String],
    locations: HashMap<u64, &'a Location>,
    functions: HashMap<u64, &'a Function>,
    mappings: HashMap<u64, &'a Mapping>,
}

impl<'a> Names<'a> {
    fn of(profile: &'a Profile) -> Self {
        Self {
            texts: &profile.string_table,
            locations: profile.location.iter().map(|location| (location.id, location)).collect(),
            functions: profile.function.iter().map(|function| (function.id, function)).collect(),
            mappings: profile.mapping.iter().map(|mapping| (mapping.id, mapping)).collect(),
        }
    }

    fn text(&self, index: i64) -> &'a str {
        usize::try_from(index).ok().and_then(|index| self.texts.get(index)).map_or("", String::as_str)
    }

    /// Which value of a sample counts samples: the one of that name, else the first.
    fn samples_index(&self, profile: &Profile) -> usize {
        profile.sample_type.iter().position(|kind| self.text(kind.r#type) == "samples").unwrap_or(0)
    }

    /// The frames of a location, the innermost first: several where functions were inlined.
    fn location(&self, id: u64) -> Vec<String> {
        let Some(location) = self.locations.get(&id) else { return vec!["?".into()] };
        if location.line.is_empty() {
            let mapping = self.mappings.get(&location.mapping_id).map_or("", |mapping| self.text(mapping.filename));
            let file = mapping.rsplit('/').next().unwrap_or_default();
            return vec![match (file, location.address) {
                ("", 0) => "?".into(),
                ("", address) => format!("{address:#x}"),
                (file, address) => clean(&format!("[{file}] {address:#x}")),
            }];
        }
        let function = |id: u64| self.functions.get(&id).map_or("", |function| self.text(function.name));
        location.line.iter().map(|line| clean(function(line.function_id))).collect()
    }
}

/// A name that fits into a line of folded text and into a drawing: one line, no `;`, nothing that cannot be seen.
pub(super) fn clean(name: &str) -> String {
    let name: String = name
        .chars()
        .take(MAX_NAME)
        .map(|c| match c {
            ';' => ':',
            c if c.is_whitespace() => ' ',
            c if is_hidden(c) => '\u{fffd}',
            c => c,
        })
        .collect();
    let name = name.trim();
    if name.is_empty() { "?".into() } else { name.to_owned() }
}

/// Controls, and what changes the direction or the look of the text around it.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
}
