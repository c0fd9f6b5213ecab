//! A captured profile as people read it: folded text, a flame graph, the hottest stacks.
//!
//! What a profile holds comes from other machines and is not trusted: it is unpacked to a bound, indexes that lead
//! nowhere become `?`, and names are cleaned of what would break a line or the drawing. The same profile always gives
//! the same bytes.

mod difference;
mod fold;
mod svg;

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use galen_proto::{
    PPROF_MEDIA_TYPE,
    pprof::Profile,
    v1::{Attachment, Event},
};
use prost::Message;

pub use difference::Difference;
pub use fold::{Stack, Stacks, is_hidden};
pub use svg::{draw, draw_difference, height};

/// Largest profile, unpacked, in bytes.
const MAX_UNPACKED: u64 = 64 << 20;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to unpack the profile")]
    Unpack(#[source] std::io::Error),
    #[error("the profile has more than {} MiB", MAX_UNPACKED >> 20)]
    TooLarge,
    #[error("the profile is not in the pprof format")]
    Format(#[from] prost::DecodeError),
    #[error("failed to draw the flame graph")]
    Draw(#[source] std::io::Error),
}

/// The first profile among an event's attachments.
pub fn attachment(event: &Event) -> Option<&Attachment> {
    profiles(event).next()
}

/// The profile of that name.
pub fn named<'a>(event: &'a Event, name: &str) -> Option<&'a Attachment> {
    profiles(event).find(|attachment| attachment.name == name)
}

/// The first profile that has samples, or else the first.
pub fn telling(event: &Event) -> Option<&Attachment> {
    let has_samples = |attachment: &&Attachment| stacks(attachment).is_ok_and(|stacks| stacks.samples > 0);
    profiles(event).find(has_samples).or_else(|| attachment(event))
}

fn profiles(event: &Event) -> impl Iterator<Item = &Attachment> {
    event.attachments.iter().filter(|attachment| attachment.media_type == PPROF_MEDIA_TYPE)
}

/// The profile as it is kept in a file: gzip'd.
///
/// # Errors
/// None today: what is not packed is packed in memory.
pub fn packed(attachment: &Attachment) -> Result<Bytes, Error> {
    if attachment.encoding == "gzip" {
        return Ok(attachment.content.clone());
    }
    let mut packed = flate2::read::GzEncoder::new(&*attachment.content, flate2::Compression::default());
    let mut bytes = Vec::new();
    packed.read_to_end(&mut bytes).map_err(Error::Unpack)?;
    Ok(bytes.into())
}

/// The stacks of a profile.
///
/// # Errors
/// If it is too large, or not a profile.
pub fn stacks(attachment: &Attachment) -> Result<Stacks, Error> {
    let profile = if attachment.encoding == "gzip" {
        let mut unpacked = Vec::new();
        let mut unpack = MultiGzDecoder::new(&*attachment.content).take(MAX_UNPACKED + 1);
        unpack.read_to_end(&mut unpacked).map_err(Error::Unpack)?;
        if unpacked.len() as u64 > MAX_UNPACKED {
            return Err(Error::TooLarge);
        }
        Profile::decode(&*unpacked)?
    } else {
        Profile::decode(&*attachment.content)?
    };
    Ok(Stacks::of(&profile))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use galen_proto::pprof::{Function, Line, Location, Sample, ValueType};

    use super::*;

    /// As an agent attaches it.
    pub(crate) fn attach(profile: &Profile) -> Attachment {
        let plain = Attachment {
            name: "cpu.pb.gz".into(),
            media_type: PPROF_MEDIA_TYPE.into(),
            content: profile.encode_to_vec().into(),
            ..Attachment::default()
        };
        Attachment { encoding: "gzip".into(), content: packed(&plain).unwrap(), ..plain }
    }

    /// A profile of these stacks, the root first.
    pub(crate) fn profile(stacks: &[(&[&str], i64)]) -> Profile {
        let mut profile = Profile { string_table: vec![String::new()], ..Profile::default() };
        for text in ["samples", "count", "cpu", "nanoseconds"] {
            profile.string_table.push(text.into());
        }
        profile.sample_type = vec![ValueType { r#type: 1, unit: 2 }, ValueType { r#type: 3, unit: 4 }];
        profile.period_type = Some(ValueType { r#type: 3, unit: 4 });
        profile.period = 10_101_010;
        for (frames, count) in stacks {
            let mut location_id = Vec::new();
            for frame in frames.iter().rev() {
                let id = profile.location.len() as u64 + 1;
                profile.string_table.push((*frame).into());
                let name = profile.string_table.len() as i64 - 1;
                profile.function.push(Function { id, name, system_name: name, ..Function::default() });
                let line = vec![Line { function_id: id, ..Line::default() }];
                profile.location.push(Location { id, line, ..Location::default() });
                location_id.push(id);
            }
            profile.sample.push(Sample { location_id, value: vec![*count, count * 10_101_010], label: Vec::new() });
        }
        profile
    }

    #[test]
    fn a_profile_becomes_folded_text_and_a_picture() {
        let attachment = attach(&profile(&[(&["main", "spin"], 7), (&["main", "rest"], 2), (&["main", "spin"], 1)]));
        let stacks = stacks(&attachment).unwrap();
        assert_eq!(stacks.folded(), "main;rest 2\nmain;spin 8\n");
        assert_eq!(stacks.hottest(1)[0].frames, ["main", "spin"]);
        let drawn = draw(&stacks, "web-1").unwrap();
        assert_eq!(drawn, draw(&stacks, "web-1").unwrap());
        let text = String::from_utf8(drawn).unwrap();
        assert!(text.starts_with("<?xml") && text.contains("spin"));
    }

    #[test]
    fn names_stay_names() {
        let evil = "<script>alert(1)</script>;a\nb\u{0}\u{202e}\" onload=\"x";
        let attachment = attach(&profile(&[(&["main", evil, "]]>"], 3)]));
        let stacks = stacks(&attachment).unwrap();
        assert_eq!(stacks.folded().lines().count(), 1);
        let text = String::from_utf8(draw(&stacks, evil).unwrap()).unwrap();
        assert!(!text.contains("<script>alert"), "{text}");
        assert!(!text.contains("\" onload=\"x"), "{text}");
        assert!(!text.contains('\0') && !text.contains('\u{202e}'));
    }

    #[test]
    fn what_is_not_a_profile_is_refused_and_a_bomb_does_not_unpack() {
        let with =
            |content: Vec<u8>| Attachment { encoding: "gzip".into(), content: content.into(), ..Attachment::default() };
        assert!(matches!(stacks(&with(b"not gzip".to_vec())), Err(Error::Unpack(_))));
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..=MAX_UNPACKED >> 20 {
            bomb.write_all(&vec![0; 1 << 20]).unwrap();
        }
        assert!(matches!(stacks(&with(bomb.finish().unwrap())), Err(Error::TooLarge)));
        let raw = Attachment { content: b"\xff\xff\xff".to_vec().into(), ..Attachment::default() };
        assert!(matches!(stacks(&raw), Err(Error::Format(_))));
    }

    #[test]
    fn indexes_that_lead_nowhere_are_shown_as_unknown() {
        let mut profile = profile(&[(&["main"], 1)]);
        profile.sample[0].location_id = vec![99, 1];
        profile.function[0].name = -5;
        profile.sample.push(Sample { location_id: vec![1], value: vec![-3], label: Vec::new() });
        profile.sample.push(Sample::default());
        assert_eq!(Stacks::of(&profile).folded(), "?;? 1\n");
    }

    #[test]
    fn a_number_at_the_end_of_a_name_is_not_a_count() {
        let text = draw(&Stacks::of(&profile(&[(&["main", "worker 500"], 2)])), "x").unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("500 (2 samples, 100.00%)"), "{text}");
    }

    #[test]
    fn a_profile_without_samples_is_drawn() {
        assert!(draw(&Stacks::of(&Profile::default()), "x").is_ok());
    }
}
