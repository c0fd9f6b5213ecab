//! The encodings that are in the field already: every message, with every field set, in `golden.txt`.
//!
//! A new field changes its message's line: check that the change only adds, then write the file anew with
//! `GALEN_BLESS=1 cargo test -p galen-proto`.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use galen_proto::{DESCRIPTORS, pprof, v1};
use prost::{DecodeError, Message};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// Field 9999, a varint: what a newer peer may send.
const UNKNOWN_FIELD: [u8; 4] = [0xf8, 0xf0, 0x04, 0x01];

type Reencode = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

fn reencode<M: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    M::decode(bytes).map(|message| message.encode_to_vec())
}

macro_rules! types {
    ($($package:literal $module:ident { $($message:ident)* })*) => {
        BTreeMap::from([$($((concat!($package, ".", stringify!($message)), reencode::<$module::$message> as Reencode)),*),*])
    };
}

fn types() -> BTreeMap<&'static str, Reencode> {
    types! {
        "galen.v1" v1 {
            Account Ack AgentMessage AggregatorMessage Attachment Batch Budget Command CommandResult Container
            ControlResponse Desired Event EventId Exemplar FieldCounts FollowEventsRequest FollowEventsResponse
            FollowIncidentsRequest GetEventRequest GetIncidentRequest GetLedgerRequest GetLedgerResponse
            GetProfileRequest GetProfileResponse GetStatusRequest GetStatusResponse Goodbye Heartbeat Hello Host
            Incident Label Ledger LeftOut ListIncidentsRequest ListIncidentsResponse ListNodesRequest ListNodesResponse
            LogRecord Loss LossCounter Measure Node NodeLedger Overflow Position Progress Quarantined Queue QueueState
            Range RecordNow RecordNowRequest ReloadSettings ReloadSettingsRequest ReportStatus SearchEventsRequest
            SearchEventsResponse SetTracer SetTracerRequest Setting Standing Suppression Times TracerStatus
            TriggerTracer TriggerTracerRequest ValueCount Watermarks Welcome
        }
        "perftools.profiles" pprof { Function Label Line Location Mapping Profile Sample ValueType }
    }
}

fn messages() -> Vec<MessageDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the crate's descriptors decode");
    let mut all: Vec<_> = pool.all_messages().filter(|message| !message.is_map_entry()).collect();
    all.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    all
}

/// A message with every field set; of a `oneof`, the member at `member`, or the last.
fn sample(message: &MessageDescriptor, member: usize) -> DynamicMessage {
    let mut sample = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let alone = field.containing_oneof().is_none_or(|oneof| {
            let members: Vec<_> = oneof.fields().collect();
            members[member.min(members.len() - 1)] == field
        });
        if alone {
            sample.set_field(&field, value(&field));
        }
    }
    sample
}

fn value(field: &FieldDescriptor) -> Value {
    if field.is_map() {
        return Value::Map([(MapKey::String("key".into()), Value::String("value".into()))].into());
    }
    let number = field.number();
    let one = match field.kind() {
        Kind::Message(message) => Value::Message(sample(&message, 0)),
        // The first that says something: one that is added at the end changes no golden encoding.
        Kind::Enum(kind) => Value::EnumNumber(kind.values().map(|value| value.number()).find(|&n| n > 0).unwrap_or(0)),
        Kind::String => Value::String(field.name().into()),
        Kind::Bytes => Value::Bytes(field.name().to_owned().into()),
        Kind::Bool => Value::Bool(true),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(1000 + number),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(1 << 40 | u64::from(number)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(-1000),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(-(1 << 40) - i64::from(number)),
        Kind::Float => Value::F32(0.5),
        Kind::Double => Value::F64(0.25),
    };
    if field.is_list() { Value::List(vec![one.clone(), one]) } else { one }
}

/// Every sample with its label: the message's name, and of a message that is one `oneof`, the member.
fn samples() -> Vec<(String, String, Vec<u8>)> {
    let mut all = Vec::new();
    for message in messages() {
        let name = message.full_name().to_owned();
        match message.oneofs().find(|oneof| !oneof.is_synthetic()) {
            None => all.push((name.clone(), name, sample(&message, 0).encode_to_vec())),
            Some(oneof) => all.extend(oneof.fields().enumerate().map(|(index, member)| {
                let label = format!("{name}/{}", member.name());
                (name.clone(), label, sample(&message, index).encode_to_vec())
            })),
        }
    }
    all
}

fn golden() -> BTreeMap<String, Vec<u8>> {
    let text = fs::read_to_string(path()).expect("golden.txt is readable");
    let unhex = |hex: &str| {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")).collect()
    };
    text.lines()
        .map(|line| line.split_once(' ').expect("a label, a space, hex"))
        .map(|(label, hex)| (label.to_owned(), unhex(hex)))
        .collect()
}

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.txt")
}

#[test]
fn every_message_has_the_encoding_that_is_in_the_field() {
    if std::env::var_os("GALEN_BLESS").is_some() {
        let mut text = String::new();
        for (_, label, bytes) in samples() {
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("a String takes all");
                hex
            });
            writeln!(text, "{label} {hex}").expect("a String takes all");
        }
        fs::write(path(), text).expect("golden.txt is writable");
    }
    let golden = golden();
    let samples = samples();
    assert_eq!(samples.len(), golden.len(), "messages and lines of golden.txt");
    for (_, label, bytes) in samples {
        assert_eq!(Some(&bytes), golden.get(&label), "{label}");
    }
}

#[test]
fn generated_types_read_and_write_the_golden_encodings() {
    let types = types();
    assert_eq!(types.keys().copied().collect::<Vec<_>>(), messages().iter().map(|m| m.full_name()).collect::<Vec<_>>());
    let golden = golden();
    for (name, label, _) in samples() {
        assert_eq!(types[name.as_str()](&golden[&label]).as_ref(), Ok(&golden[&label]), "{label}");
    }
}

#[test]
fn fields_of_a_newer_peer_are_passed_over() {
    let types = types();
    for (name, label, bytes) in samples() {
        let newer = [&bytes[..], &UNKNOWN_FIELD].concat();
        assert_eq!(types[name.as_str()](&newer).as_ref(), Ok(&bytes), "{label}");
    }
}

#[test]
fn kinds_of_message_of_a_newer_peer_are_seen_as_none() {
    // Field 9999, length-delimited, empty: a member of the `oneof` that this version does not know.
    let newer = [0xfa, 0xf0, 0x04, 0x00];
    assert_eq!(v1::AgentMessage::decode(&newer[..]).map(|message| message.message), Ok(None));
    assert_eq!(v1::AggregatorMessage::decode(&newer[..]).map(|message| message.message), Ok(None));
    assert_eq!(v1::Command::decode(&newer[..]).map(|command| command.command), Ok(None));
}

#[test]
fn messages_of_an_older_peer_lack_fields_and_are_read() {
    for reencode in types().values() {
        assert_eq!(reencode(&[]), Ok(Vec::new()));
    }
}
