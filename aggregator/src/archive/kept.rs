//! Which archive there is, and what fills it from the log.

use std::{path::PathBuf, sync::Arc};

use galen_log::Cursor;
use galen_opensearch::Counters;
use galen_store::Store;
use tokio::task::spawn_blocking;

use super::{Archive, Embedded, OpenSearch};
use crate::{Error, Parts, Settings, indexer, sink};

/// Where events are kept to be found.
pub enum Kept {
    Embedded(Store),
    OpenSearch { settings: Box<galen_opensearch::Settings>, cursor: PathBuf },
}

impl Kept {
    /// # Errors
    /// A directory that cannot be used.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        Ok(match &settings.opensearch {
            None => Self::Embedded(open_store(settings).await?),
            Some(opensearch) => Self::OpenSearch {
                settings: Box::new(opensearch.clone()),
                cursor: settings.data_dir.join(sink::CURSOR_FILE),
            },
        })
    }

    /// No event of the log that it has not seen has an offset below this.
    ///
    /// # Errors
    /// A place that cannot be read.
    pub fn floor(&self) -> Result<u64, Error> {
        match self {
            Self::Embedded(store) => Ok(store.floor()),
            Self::OpenSearch { cursor, .. } => Ok(Cursor::reach(cursor)?),
        }
    }

    /// Begins to fill it from the log.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn start(self, parts: &Parts) -> Result<Arc<dyn Archive>, Error> {
        Ok(match self {
            Self::Embedded(store) => Arc::new(start_indexer(parts, store)?),
            Self::OpenSearch { settings, cursor } => Arc::new(start_sink(parts, *settings, cursor)?),
        })
    }
}

/// From the log to the embedded store.
fn start_indexer(parts: &Parts, store: Store) -> Result<Embedded, Error> {
    let metrics = indexer::Metrics::register(&parts.registry)?;
    let position = metrics.position.clone();
    let (sampled, log, indexed) = (store.clone(), Arc::clone(&parts.log), position.clone());
    parts.registry.sampled(move || {
        let lag = log.bounds().next.saturating_sub(indexed.get());
        indexer::families(&sampled.stats(), lag)
    })?;
    if parts.settings.index {
        let (log, nodes) = (Arc::clone(&parts.log), Arc::clone(&parts.nodes));
        indexer::start(&parts.supervisor, log, store.clone(), nodes, metrics);
    }
    Ok(Embedded::new(store, Arc::clone(&parts.log), position))
}

/// From the log to OpenSearch.
fn start_sink(parts: &Parts, settings: galen_opensearch::Settings, cursor: PathBuf) -> Result<OpenSearch, Error> {
    let archive = galen_opensearch::Archive::new(&settings)?;
    let counters = Arc::<Counters>::default();
    if parts.settings.index {
        let source = match (&parts.settings.kafka, &parts.kafka) {
            (Some(settings), Some(kafka)) => sink::Source::kafka(settings, kafka.writer.link(), &parts.supervisor)?,
            _ => sink::Source::Log(Arc::clone(&parts.log), cursor),
        };
        sink::start(&parts.supervisor, source, settings, Arc::clone(&counters));
        sink::start_ledger(&parts.supervisor, archive.clone(), Arc::clone(&parts.nodes));
    }
    let counted = Arc::clone(&counters);
    parts.registry.sampled(move || sink::families(&counted.stats()))?;
    Ok(OpenSearch::new(archive, counters, Arc::clone(&parts.log)))
}

async fn open_store(settings: &Settings) -> Result<Store, Error> {
    let store = galen_store::Settings {
        dir: settings.data_dir.join("store"),
        retention: settings.store.retention_age.0,
        max_bytes: settings.store.retention_bytes.0,
    };
    Ok(spawn_blocking(move || Store::open(store)).await??)
}
