//! A connection that is given up when its peer says nothing at first, or stops reading.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Fails a read if no byte came within the first span, and a write that made no progress for the second.
pub(super) struct Guarded<IO> {
    io: IO,
    first_byte: Option<Pin<Box<Sleep>>>,
    stall: Pin<Box<Sleep>>,
    stalled: bool,
    patience: Duration,
}

impl<IO> Guarded<IO> {
    pub(super) fn new(io: IO, first_byte: Duration, patience: Duration) -> Self {
        Self {
            io,
            first_byte: Some(Box::pin(sleep(first_byte))),
            stall: Box::pin(sleep(patience)),
            stalled: false,
            patience,
        }
    }

    /// Watches the outcome of a write: one that cannot go on starts the clock.
    fn patient<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = false;
            return outcome;
        }
        if !self.stalled {
            self.stalled = true;
            self.stall.as_mut().reset(Instant::now() + self.patience);
        }
        match self.stall.as_mut().poll(context) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_read(context, buffer);
        if outcome.is_ready() {
            this.first_byte = None;
            return outcome;
        }
        match this.first_byte.as_mut().map(|clock| clock.as_mut().poll(context)) {
            Some(Poll::Ready(())) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer says nothing")))
            }
            _ => Poll::Pending,
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_write(context, bytes);
        this.patient(context, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_flush(context);
        this.patient(context, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_shutdown(context);
        this.patient(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_write_vectored(context, slices);
        this.patient(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up() {
        let (near, _far) = duplex(16);
        let mut guarded = Guarded::new(near, SECOND, SECOND);
        assert_eq!(guarded.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_reading_is_given_up_and_a_slow_one_is_not() {
        let (near, mut far) = duplex(4);
        let mut guarded = Guarded::new(near, SECOND, SECOND);
        let slow = async {
            let mut four = [0; 4];
            for _ in 0..5 {
                sleep(SECOND / 2).await;
                far.read_exact(&mut four).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(guarded.write_all(&[7; 20]), slow);
        written.unwrap();
        assert_eq!(guarded.write_all(&[7; 20]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
