//! Where the partitions of a topic ended at a moment: whoever has read up to there has all that was in them by then.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
};

/// Longest wait for one of them: reading waits for it, and it is asked for again.
const ANSWER: Duration = Duration::from_secs(1);

/// How far a reader is: behind the last record that it read of each partition, if it has read one.
type Read = HashMap<i32, Option<u64>>;

pub(crate) struct Ends {
    pub(crate) at: Instant,
    /// Behind the last record, of partitions that have records.
    next: HashMap<i32, u64>,
}

impl Ends {
    /// Of the partitions that are read, `at` or later. `None` if one ended before what was read of it: it was made anew,
    /// and is to be read anew.
    pub(crate) fn find<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        topic: &str,
        read: &Read,
        at: Instant,
    ) -> Result<Option<Self>, KafkaError> {
        let mut next = HashMap::new();
        for (&partition, &read) in read {
            let (first, end) = consumer.fetch_watermarks(topic, partition, ANSWER)?;
            if end <= first {
                continue;
            }
            let end = end.unsigned_abs();
            if read > Some(end) {
                return Ok(None);
            }
            next.insert(partition, end);
        }
        Ok(Some(Self { at, next }))
    }

    pub(crate) fn are_reached(&self, read: &Read) -> bool {
        self.next.iter().all(|(partition, end)| read.get(partition).is_some_and(|next| *next >= Some(*end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_reached_when_every_partition_that_has_records_is_read() {
        let ends = Ends { at: Instant::now(), next: [(0, 7), (2, 1)].into() };
        let read = |first, third| Read::from([(0, first), (1, None), (2, third)]);
        assert!(ends.are_reached(&read(Some(7), Some(3))));
        assert!(!ends.are_reached(&read(Some(6), Some(1))) && !ends.are_reached(&read(Some(7), None)));
        assert!(!ends.are_reached(&Read::new()));
    }
}
