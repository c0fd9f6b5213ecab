//! The fields of a document, as the engine keeps them.
//!
//! Names are those of the query language. A keyword is kept whole; words are cut at what is neither a letter nor a
//! digit and lowered. Every field that can be sorted, counted or compared is a column as well ("fast"). `source` and
//! `evidence` are only stored: they lead back to the event as it was received.

use std::sync::LazyLock;

use tantivy::{
    schema::{FAST, Field, IndexRecordOption, JsonObjectOptions, STORED, Schema, TextFieldIndexing, TextOptions},
    tokenizer::{LowerCaser, RawTokenizer, RemoveLongFilter, SimpleTokenizer, TextAnalyzer, TokenizerManager},
};

/// Cuts text into lowered words.
pub(crate) const WORDS: &str = "words";
/// The only keyword that is a column alone.
pub(crate) const RUN_ID: &str = "run_id";
/// Keeps text whole.
pub(crate) const WHOLE: &str = "raw";
/// Longest word or keyword that can be searched, in bytes.
const MAX_WORD: usize = 512;

/// The only schema there is. A change to it needs a new [`VERSION`].
pub(crate) static FIELDS: LazyLock<Fields> = LazyLock::new(Fields::new);
/// Version of the on-disk form. An index of another version is put aside and built anew from the log.
pub(crate) const VERSION: u32 = 2;

/// Handles of all fields.
pub(crate) struct Fields {
    pub(crate) schema: Schema,
    pub(crate) node: Field,
    pub(crate) epoch: Field,
    pub(crate) seq: Field,
    pub(crate) offset: Field,
    pub(crate) time: Field,
    pub(crate) recorded: Field,
    pub(crate) received: Field,
    pub(crate) tracer: Field,
    pub(crate) run_id: Field,
    pub(crate) kind: Field,
    pub(crate) severity: Field,
    pub(crate) summary: Field,
    pub(crate) defect: Field,
    pub(crate) attachment: Field,
    pub(crate) container: Container,
    pub(crate) host: Host,
    /// All values, as columns: numbers are only ever compared.
    pub(crate) data: Field,
    /// The texts and truths of `data`, as terms.
    pub(crate) data_text: Field,
    pub(crate) source: Field,
    pub(crate) evidence: Field,
}

pub(crate) struct Container {
    pub(crate) id: Field,
    pub(crate) name: Field,
    pub(crate) runtime: Field,
    pub(crate) cgroup: Field,
    pub(crate) pod: Field,
    pub(crate) namespace: Field,
    pub(crate) qos: Field,
    pub(crate) image: Field,
    pub(crate) labels: Field,
}

pub(crate) struct Host {
    pub(crate) name: Field,
    pub(crate) kernel: Field,
    pub(crate) arch: Field,
    pub(crate) boot_id: Field,
    pub(crate) region: Field,
    pub(crate) cpus: Field,
}

impl Fields {
    fn new() -> Self {
        let mut schema = Schema::builder();
        let mut keyword = |name: &str| schema.add_text_field(name, keyword());
        let [node, epoch, tracer, kind, severity, attachment] =
            ["node", "epoch", "tracer", "kind", "severity", "attachment"].map(&mut keyword);
        let container = Container {
            id: keyword("container.id"),
            name: keyword("container.name"),
            runtime: keyword("container.runtime"),
            cgroup: keyword("container.cgroup"),
            pod: keyword("container.pod"),
            namespace: keyword("container.namespace"),
            qos: keyword("container.qos"),
            image: keyword("container.image"),
            labels: schema.add_json_field("container.labels", terms(WHOLE, IndexRecordOption::Basic).set_fast(WHOLE)),
        };
        let mut keyword = |name: &str| schema.add_text_field(name, self::keyword());
        let [name, kernel, arch, boot_id, region] =
            ["host.name", "host.kernel", "host.arch", "host.boot_id", "host.region"].map(&mut keyword);
        // Every run has its own: a dear term.
        let run_id = schema.add_text_field(RUN_ID, TextOptions::default().set_fast(WHOLE));
        let host = Host { name, kernel, arch, boot_id, region, cpus: schema.add_u64_field("host.cpus", FAST) };
        Self {
            node,
            epoch,
            seq: schema.add_u64_field("seq", FAST),
            offset: schema.add_u64_field("offset", FAST),
            time: schema.add_i64_field("time", FAST),
            recorded: schema.add_i64_field("recorded", FAST),
            received: schema.add_i64_field("received", FAST),
            tracer,
            run_id,
            kind,
            severity,
            summary: schema.add_text_field("summary", words()),
            defect: schema.add_text_field("defect", words().set_fast(WHOLE)),
            attachment,
            container,
            host,
            data: schema.add_json_field("data", columns()),
            data_text: schema.add_json_field("data_text", terms(WORDS, IndexRecordOption::WithFreqsAndPositions)),
            source: schema.add_bytes_field("source", STORED),
            evidence: schema.add_bytes_field("evidence", STORED),
            schema: schema.build(),
        }
    }
}

/// The tokenizers that the schema names.
pub(crate) fn tokenizers() -> TokenizerManager {
    // The engine asks for its own ones as well, even for numbers.
    let tokenizers = TokenizerManager::default();
    let long = || RemoveLongFilter::limit(MAX_WORD);
    tokenizers.register(WHOLE, TextAnalyzer::builder(RawTokenizer::default()).filter(long()).build());
    tokenizers
        .register(WORDS, TextAnalyzer::builder(SimpleTokenizer::default()).filter(long()).filter(LowerCaser).build());
    tokenizers
}

fn indexing(tokenizer: &str, record: IndexRecordOption) -> TextFieldIndexing {
    TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(record).set_fieldnorms(false)
}

fn keyword() -> TextOptions {
    TextOptions::default().set_indexing_options(indexing(WHOLE, IndexRecordOption::Basic)).set_fast(WHOLE)
}

fn words() -> TextOptions {
    TextOptions::default().set_indexing_options(indexing(WORDS, IndexRecordOption::WithFreqsAndPositions))
}

fn terms(tokenizer: &str, record: IndexRecordOption) -> JsonObjectOptions {
    JsonObjectOptions::default().set_indexing_options(indexing(tokenizer, record)).set_expand_dots_enabled()
}

fn columns() -> JsonObjectOptions {
    JsonObjectOptions::default().set_fast(WHOLE).set_expand_dots_enabled()
}
