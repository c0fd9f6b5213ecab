//! The length of a message, apart from the message.
//!
//! tonic's decoder reads the prefix of a message, and then makes room for the whole of it besides what it has already. A
//! message that comes together with its prefix so takes twice its size, in a buffer that stays as it is for as long as
//! the stream lasts, and there is one for each agent. Given the prefix first, it makes room for the message and puts it
//! there.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame};

/// Of a message of gRPC: a byte that says whether it is compressed, and four with its length.
const PREFIX: usize = 5;

/// The body of a question, in pieces that are either of a prefix or of a message.
#[derive(Debug)]
pub(super) struct PrefixApart {
    body: Body,
    /// What has come and was not handed on.
    come: Bytes,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that have come.
    read: usize,
    /// Bytes of the message that have not come.
    missing: usize,
}

impl PrefixApart {
    pub(super) fn new(body: Body) -> Self {
        Self { body, come: Bytes::new(), prefix: [0; PREFIX], read: 0, missing: 0 }
    }

    fn piece(&mut self) -> Bytes {
        if self.missing > 0 {
            let piece = self.come.split_to(self.missing.min(self.come.len()));
            self.missing -= piece.len();
            return piece;
        }
        let piece = self.come.split_to((PREFIX - self.read).min(self.come.len()));
        self.prefix[self.read..][..piece.len()].copy_from_slice(&piece);
        self.read += piece.len();
        if self.read == PREFIX {
            self.read = 0;
            self.missing = (&self.prefix[1..]).get_u32() as usize;
        }
        piece
    }
}

impl HttpBody for PrefixApart {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while self.come.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.come = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.come.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend((length as u32).to_be_bytes());
        message.extend((0..length).map(|place| place as u8));
        message
    }

    /// What becomes of a body that comes in pieces of `size`.
    async fn pieces(of: &[u8], size: usize) -> Vec<Bytes> {
        let pieces: Vec<_> = of.chunks(size).map(|piece| Ok::<_, axum::Error>(Bytes::copy_from_slice(piece))).collect();
        let body = Body::new(PrefixApart::new(Body::from_stream(stream::iter(pieces))));
        body.into_data_stream().map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn prefixes_come_apart_however_the_body_comes() {
        let lengths = [300, 0, 1, 0, 0, 70_000];
        let body: Vec<u8> = lengths.into_iter().flat_map(message).collect();
        for size in [1, 3, 5, 6, 305, body.len()] {
            assert_eq!(pieces(&body, size).await.concat(), body, "in pieces of {size}");
        }
        let whole: Vec<_> = pieces(&body, body.len()).await.iter().map(Bytes::len).collect();
        assert_eq!(whole, [5, 300, 5, 5, 1, 5, 5, 5, 70_000]);
    }
}
