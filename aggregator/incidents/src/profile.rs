//! The stacks of a pprof attachment, as prints need them: names without what differs between machines.
//!
//! A profile comes from another machine, and each is read as it comes: it is unpacked to a bound, no more frames are
//! looked at than an agent puts into one, indexes that lead nowhere are frames without a name, and one that cannot be
//! read is none.

use std::{collections::HashMap, io::Read};

use flate2::read::MultiGzDecoder;
use galen_proto::{
    PPROF_MEDIA_TYPE, PROFILE_AFTER,
    pprof::{Function, Location, Mapping, Profile},
    v1::{Attachment, Event},
};
use prost::Message;

use crate::{
    frame::{Frame, normalise},
    stack::{MAX_DEPTH, collapse, path},
};

/// Profiles of one event that are looked at.
const MAX_PROFILES: usize = 4;
/// Largest profile, unpacked, in bytes: in memory it may be 36 times as much.
const MAX_UNPACKED: u64 = 16 << 20;
/// Longest name that is looked at, in bytes: many functions may share it.
const MAX_TEXT: usize = 1024;
/// Most frames of all stacks together, and most names that they have.
const MAX_FRAMES: usize = 2_000_000;
const MAX_NAMES: usize = 400_000;

/// The frames of the first profile that has some: that of the seconds after the trigger, then any other.
pub(crate) fn frames(event: &Event) -> Vec<String> {
    let mut profiles: Vec<&Attachment> =
        event.attachments.iter().filter(|attachment| attachment.media_type == PPROF_MEDIA_TYPE).collect();
    profiles.sort_by_key(|attachment| attachment.name != PROFILE_AFTER);
    let read = |attachment| decode(attachment).map(|profile| cause(&profile));
    profiles.into_iter().take(MAX_PROFILES).filter_map(read).find(|frames| !frames.is_empty()).unwrap_or_default()
}

fn decode(attachment: &Attachment) -> Option<Profile> {
    if attachment.encoding != "gzip" {
        return Profile::decode(&*attachment.content).ok();
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(&*attachment.content).take(MAX_UNPACKED + 1).read_to_end(&mut unpacked).ok()?;
    if unpacked.len() as u64 > MAX_UNPACKED {
        return None;
    }
    Profile::decode(&*unpacked).ok()
}

fn cause(profile: &Profile) -> Vec<String> {
    let names = Names {
        texts: &profile.string_table,
        functions: profile.function.iter().map(|function| (function.id, function)).collect(),
        mappings: profile.mapping.iter().map(|mapping| (mapping.id, mapping)).collect(),
    };
    let mut left = MAX_NAMES;
    let mut of_location: HashMap<u64, Vec<String>> = HashMap::new();
    for location in &profile.location {
        let frames: Vec<String> = names.location(location).take(left).collect();
        left -= frames.len();
        of_location.insert(location.id, frames);
    }
    let value = profile.sample_type.iter().position(|kind| names.text(kind.r#type) == "samples").unwrap_or(0);
    let mut left = MAX_FRAMES;
    let mut stacks: HashMap<Vec<&str>, u64> = HashMap::new();
    for sample in &profile.sample {
        let samples = sample.value.get(value).copied().and_then(|samples| u64::try_from(samples).ok()).unwrap_or(0);
        let innermost_first = sample.location_id.iter().filter_map(|id| of_location.get(id)).flatten();
        let frames: Vec<&str> = innermost_first.take(left.min(MAX_DEPTH)).map(String::as_str).collect();
        left -= frames.len();
        let seen = stacks.entry(collapse(frames.into_iter().rev())).or_default();
        *seen = seen.saturating_add(samples.min(u64::from(u32::MAX)));
    }
    path(&stacks)
}

struct Names<'a> {
    texts: &'a [String],
    functions: HashMap<u64, &'a Function>,
    mappings: HashMap<u64, &'a Mapping>,
}

impl<'a> Names<'a> {
    fn text(&self, index: i64) -> &'a str {
        let text = usize::try_from(index).ok().and_then(|index| self.texts.get(index)).map_or("", String::as_str);
        &text[..text.floor_char_boundary(MAX_TEXT)]
    }

    /// The innermost first: several where functions were inlined.
    fn location(&self, location: &Location) -> impl Iterator<Item = String> {
        let module = self.mappings.get(&location.mapping_id).map_or("", |mapping| self.text(mapping.filename));
        let unknown = location.line.is_empty().then_some("");
        let symbol = |id| self.functions.get(&id).map_or("", |function| self.text(function.name));
        let symbols = location.line.iter().map(move |line| symbol(line.function_id)).chain(unknown);
        symbols.filter_map(move |symbol| normalise(Frame { symbol, module }))
    }
}
