//! Bodies: what comes in is bounded, what goes out is whole or a stream.

use std::{
    io::Write,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::error::ApiError;

/// An error of any kind, as hyper and tower pass them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response: text, or frames as they come.
///
/// ```
/// use http_body::Body;
/// use rkube_api::http::ResponseBody;
///
/// assert_eq!(ResponseBody::from("ok").size_hint().exact(), Some(2));
/// ```
pub struct ResponseBody(Inner);

enum Inner {
    Whole(Option<Bytes>),
    Frames(BoxStream<'static, Result<Bytes, ApiError>>),
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Inner::Whole(bytes) => write!(f, "{} bytes", bytes.as_ref().map_or(0, Bytes::len)),
            Inner::Frames(_) => f.write_str("frames"),
        }
    }
}

impl<T: Into<Bytes>> From<T> for ResponseBody {
    fn from(text: T) -> Self {
        let bytes = text.into();
        Self(Inner::Whole((!bytes.is_empty()).then_some(bytes)))
    }
}

impl ResponseBody {
    /// Frames, each sent as soon as it comes. An error cuts the response off.
    pub(super) fn frames(frames: impl Stream<Item = Result<Bytes, ApiError>> + Send + 'static) -> Self {
        Self(Inner::Frames(frames.boxed()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Frames(frames) => frames.poll_next_unpin(context).map(|next| {
                next.map(|frame| frame.map(Frame::data).map_err(|error| Box::new(error) as BoxError))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Inner::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Inner::Frames(_) => SizeHint::default(),
        }
    }
}

/// Pieces of text that are joined into frames of about this size.
const FRAME: usize = 64 * 1024;

/// Pieces of one text, made as they are asked for.
pub(super) type Pieces = Box<dyn Iterator<Item = Result<Bytes, ApiError>> + Send>;

/// Joins pieces into frames.
fn framed(mut pieces: Pieces) -> impl Iterator<Item = Result<Bytes, ApiError>> + Send {
    let mut done = false;
    std::iter::from_fn(move || {
        let mut frame = BytesMut::new();
        while !done && frame.len() < FRAME {
            match pieces.next() {
                Some(Ok(piece)) => frame.extend_from_slice(&piece),
                Some(Err(error)) => {
                    done = true;
                    return Some(Err(error));
                }
                None => done = true,
            }
        }
        (!frame.is_empty()).then(|| Ok(frame.freeze()))
    })
}

/// Compresses frames as they pass.
fn gzipped(
    mut frames: impl Iterator<Item = Result<Bytes, ApiError>> + Send,
) -> impl Iterator<Item = Result<Bytes, ApiError>> + Send {
    // Level 1, as Kubernetes: a large list costs more to compress than to send otherwise.
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let failed = |error: std::io::Error| ApiError::internal(format!("gzip: {error}"));
    std::iter::from_fn(move || {
        while let Some(gzip) = &mut encoder {
            let step = match frames.next() {
                Some(Ok(frame)) => gzip.write_all(&frame).map(|()| std::mem::take(gzip.get_mut())),
                Some(Err(error)) => {
                    encoder = None;
                    return Some(Err(error));
                }
                None => encoder.take().map_or(Ok(Vec::new()), GzEncoder::finish),
            };
            match step {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Some(Ok(out.into())),
                Err(error) => return Some(Err(failed(error))),
            }
        }
        None
    })
}

/// Responses above this size are compressed for clients that take gzip.
pub(super) const GZIP_ABOVE: usize = 128 * 1024;

/// A body of these pieces, and whether it is compressed. A short one is whole, with a length.
pub(super) fn assemble(pieces: Pieces, gzip: bool) -> Result<(ResponseBody, bool), ApiError> {
    let mut frames = framed(pieces);
    let mut first = Vec::new();
    let mut size = 0;
    let mut ended = false;
    while size <= GZIP_ABOVE {
        match frames.next().transpose()? {
            Some(frame) => {
                size += frame.len();
                first.push(frame);
            }
            None => {
                ended = true;
                break;
            }
        }
    }
    if ended && first.len() == 1 {
        return Ok((first.remove(0).into(), false));
    }
    if ended && size <= GZIP_ABOVE {
        return Ok((first.concat().into(), false));
    }
    let all = first.into_iter().map(Ok).chain(frames);
    Ok(if gzip {
        (ResponseBody::frames(stream::iter(gzipped(all))), true)
    } else {
        (ResponseBody::frames(stream::iter(all)), false)
    })
}

/// A request's body on its way in.
pub(super) struct Upload<'a, B> {
    body: Pin<&'a mut B>,
    /// Whether any of it was asked for.
    begun: bool,
}

impl<'a, B> Upload<'a, B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: Pin<&'a mut B>) -> Self {
        Self { body, begun: false }
    }

    /// Reads all of it, up to `limit` bytes.
    pub(super) async fn read(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let too_large =
            || ApiError::TooLarge { message: format!("Request entity too large: limit is {limit}") };
        if self.body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        self.begun = true;
        match Limited::new(self.body.as_mut(), limit).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
            Err(error) => Err(ApiError::bad_request(format!("the body could not be read: {error}"))),
        }
    }

    /// Reads and drops what is left, at most so much for so long; nothing if it is known to be more. A
    /// client that `waits` to be told to send (RFC 9110, section 10.1.1) sends nothing until it is.
    pub(super) async fn drain(&mut self, waits: bool, most: usize, time: Duration) {
        let beyond = self.body.size_hint().lower() > most as u64;
        if self.body.is_end_stream() || beyond || (waits && !self.begun) {
            return;
        }
        let mut rest = Limited::new(self.body.as_mut(), most);
        let all = async { while let Some(Ok(_)) = rest.frame().await {} };
        // Whatever comes of it, the answer follows.
        let _ = timeout(time, all).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http_body_util::{Full, StreamBody};

    use super::*;

    fn pieces(count: usize) -> Pieces {
        Box::new((0..count).map(|_| Ok(Bytes::from(vec![b'x'; 1000]))))
    }

    async fn text(body: ResponseBody) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn short_bodies_have_a_length_and_long_ones_are_frames() {
        for (count, whole) in [(0, true), (1, true), (100, true), (131, true), (140, false), (1000, false)] {
            let (body, gzip) = assemble(pieces(count), false).unwrap();
            assert!(!gzip);
            assert_eq!(body.size_hint().exact().is_some(), whole, "{count}");
            assert_eq!(text(body).await.len(), count * 1000);
        }
    }

    #[tokio::test]
    async fn long_bodies_are_compressed_if_asked() {
        let (_, gzip) = assemble(pieces(100), true).unwrap();
        assert!(!gzip);
        let (body, gzip) = assemble(pieces(1000), true).unwrap();
        assert!(gzip);
        let packed = text(body).await;
        assert!(packed.len() < 100_000);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&*packed).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, vec![b'x'; 1_000_000]);
    }

    /// Frames of a thousand bytes each, which say nothing of what follows, and how many were taken.
    fn upload(frames: usize) -> (impl Body<Data = Bytes, Error = BoxError>, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let frames = stream::iter(0..frames).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(Frame::data(Bytes::from(vec![b'x'; 1000])))
        });
        (StreamBody::new(frames), taken)
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_413() {
        let whole = Full::new(Bytes::from(vec![0; 11]));
        assert_eq!(Upload::new(pin!(whole.clone())).read(10).await.unwrap_err().code(), 413);
        assert_eq!(Upload::new(pin!(whole)).read(11).await.unwrap().len(), 11);
        assert_eq!(Upload::new(pin!(upload(11).0)).read(10_000).await.unwrap_err().code(), 413);
        assert_eq!(Upload::new(pin!(upload(10).0)).read(10_000).await.unwrap().len(), 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_body_is_dropped_within_bounds() {
        let second = Duration::from_secs(1);
        let (body, taken) = upload(100);
        let body = pin!(body);
        let mut body = Upload::new(body);
        assert_eq!(body.read(10_000).await.unwrap_err().code(), 413);
        body.drain(true, 1_000_000, second).await;
        assert_eq!(taken.load(Ordering::SeqCst), 100, "who was told to send is read to the end");

        let (body, taken) = upload(100);
        Upload::new(pin!(body)).drain(false, 10_000, second).await;
        assert_eq!(taken.load(Ordering::SeqCst), 11, "no more than the bound");

        let (body, taken) = upload(100);
        Upload::new(pin!(body)).drain(true, 1_000_000, second).await;
        assert_eq!(taken.load(Ordering::SeqCst), 0, "who waits to be told is not");

        let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
        Upload::new(pin!(never)).drain(false, 1_000_000, second).await;
    }
}
