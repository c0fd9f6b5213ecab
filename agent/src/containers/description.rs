//! What a runtime says of a container, as much of it as is kept.

use std::collections::HashMap;

/// Labels that are kept of a container, in bytes: the first by name.
const MAX_LABELS: usize = 8 << 10;
/// Longest text that is kept of anything else.
const MAX_TEXT: usize = 1 << 10;
/// What Kubernetes keeps of a pod in the labels of its containers.
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// What a runtime says of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub image: String,
    pub pod: String,
    pub namespace: String,
    pub labels: HashMap<String, String>,
    /// What the runtime calls itself; empty if it did not say.
    pub runtime: String,
}

impl Description {
    /// What of it is kept, and how many labels are not.
    pub(super) fn bounded(mut self) -> (Self, u64) {
        for text in [&mut self.name, &mut self.image, &mut self.pod, &mut self.namespace, &mut self.runtime] {
            cut(text);
        }
        // As Kubernetes has it where another runtime does the work for it.
        for (field, label) in [(&mut self.pod, POD_NAME), (&mut self.namespace, POD_NAMESPACE)] {
            if field.is_empty() {
                field.clone_from(self.labels.get(label).unwrap_or(&String::new()));
                cut(field);
            }
        }
        let mut labels: Vec<_> = std::mem::take(&mut self.labels).into_iter().collect();
        labels.sort_unstable();
        let (all, mut room) = (labels.len(), MAX_LABELS);
        self.labels = labels
            .into_iter()
            .map_while(|(key, value)| {
                room = room.checked_sub(key.len() + value.len())?;
                Some((key, value))
            })
            .collect();
        let left_out = all - self.labels.len();
        (self, left_out as u64)
    }
}

fn cut(text: &mut String) {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_is_too_long_is_cut_and_what_is_left_out_counted() {
        let labels = (0..1000).map(|n| (format!("key{n:04}"), "x".repeat(100))).collect();
        let description = Description { name: "ä".repeat(MAX_TEXT), labels, ..Default::default() };
        let (kept, left_out) = description.bounded();
        assert_eq!(kept.name.len(), MAX_TEXT);
        let bytes: usize = kept.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes <= MAX_LABELS && bytes > MAX_LABELS - 200, "{bytes}");
        assert!(kept.labels.contains_key("key0000"));
        assert_eq!(left_out, 1000 - kept.labels.len() as u64);
    }

    #[test]
    fn a_pod_is_told_by_the_labels_where_nothing_else_tells_it() {
        let labels = [(POD_NAME, "cart-0"), (POD_NAMESPACE, "shop")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let (kept, _) = Description { labels, ..Default::default() }.bounded();
        assert_eq!((kept.pod.as_str(), kept.namespace.as_str()), ("cart-0", "shop"));
    }
}
