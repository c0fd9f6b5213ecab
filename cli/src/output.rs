//! How results look: escaped, aligned, coloured only on a terminal, or as JSON lines.

mod json;
mod plain;
mod stack_tree;
mod style;
mod table;

pub(crate) use json::{
    event as event_json, incident as incident_json, ledger as ledger_json, line as json_line, name_of,
    node as node_json, node_ledger as node_ledger_json, overflow as overflow_json, status as status_json,
    tracer as tracer_json,
};
pub(crate) use plain::plain;
pub(crate) use stack_tree::StackTree;
pub(crate) use style::{Colour, Style};
pub(crate) use table::Table;
