//! Calls to the members of an etcd cluster: which member, how often, as which user, and what it means
//! when a call fails.

use std::error::Error;
use std::future::ready;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Status};
use tonic_prost::ProstCodec;

use super::options::{ConnectOptions, EtcdError};
use super::wire::{AuthenticateRequest, AuthenticateResponse, Method};

/// The calls of one store.
pub(super) struct Client {
    members: Vec<Channel>,
    /// The member that is called: the last one that did not fail.
    at: AtomicUsize,
    user: Option<AuthenticateRequest>,
    token: Mutex<Option<AsciiMetadataValue>>,
    /// How long one member is waited for.
    attempt: Duration,
    /// How long all of them are tried.
    patience: Duration,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// etcd refused it, in these words of its own; it was not done.
    Refused(String),
    /// No member could be reached, or none would take it; it was not done.
    Unreachable(String),
    /// It was sent and not answered: it may be done, now or later.
    Lost(String),
}

impl Failure {
    pub(super) fn text(self) -> String {
        match self {
            Self::Refused(text) | Self::Unreachable(text) | Self::Lost(text) => text,
        }
    }
}

/// What one attempt that failed means for the next.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// etcd's answer is final.
    Final,
    /// It never reached etcd, or etcd had no leader to give it to: another member may take it.
    NotDone,
    /// The token is not (or no longer) known: with a new one it may work.
    Token,
    /// Nobody knows.
    Lost,
}

const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Client {
    pub(super) fn new(options: &ConnectOptions) -> Result<Self, EtcdError> {
        Ok(Self {
            members: options.channels()?,
            at: AtomicUsize::new(0),
            user: options.credentials(),
            token: Mutex::default(),
            attempt: options.attempt,
            patience: options.patience,
        })
    }

    /// Calls until there is an answer, as long as the call may be repeated, or was surely not done.
    pub(super) async fn call<Q, A>(&self, method: Method, message: Q) -> Result<A, Failure>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + self.patience;
        let (mut pause, mut renewed) = (PAUSE, false);
        loop {
            let member = self.at.load(Ordering::Relaxed);
            let (verdict, status) = match self.attempt(member, &method, message.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => (judge(&status), status),
            };
            match verdict {
                Verdict::Final => return Err(Failure::Refused(text(&status))),
                Verdict::Token if renewed || self.user.is_none() => {
                    return Err(Failure::Refused(text(&status)));
                }
                Verdict::Token => {
                    *self.token.lock() = None;
                    renewed = true;
                    continue;
                }
                Verdict::Lost if !method.repeatable => {
                    self.leave(member);
                    return Err(Failure::Lost(text(&status)));
                }
                Verdict::NotDone | Verdict::Lost => self.leave(member),
            }
            if Instant::now() + pause >= deadline {
                let failure = if verdict == Verdict::Lost { Failure::Lost } else { Failure::Unreachable };
                return Err(failure(text(&status)));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt<Q, A>(&self, member: usize, method: &Method, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let end = Instant::now() + self.attempt;
        let late = |_| Status::deadline_exceeded("no answer came in time");
        let token =
            timeout_at(end, self.token(member)).await.map_err(|_| not_sent("no token came in time"))??;
        let mut grpc = self.grpc(member)?;
        let ready =
            timeout_at(end, grpc.ready()).await.map_err(|_| not_sent("no connection came in time"))?;
        ready.map_err(|error| not_sent(&error.to_string()))?;
        let request = request(message, token);
        let path = PathAndQuery::from_static(method.path);
        let answer = timeout_at(end, grpc.unary(request, path, ProstCodec::<Q, A>::default())).await;
        Ok(answer.map_err(late)??.into_inner())
    }

    /// A call whose answers come as a stream; the request's side stays open until the stream is dropped.
    pub(super) async fn stream<Q, A>(
        &self,
        method: Method,
        message: Q,
    ) -> Result<BoxStream<'static, Result<A, Status>>, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let member = self.at.load(Ordering::Relaxed);
        let begin = async {
            let token = self.token(member).await?;
            let mut grpc = self.grpc(member)?;
            grpc.ready().await.map_err(|error| not_sent(&error.to_string()))?;
            let sent = futures::stream::once(async { message }).chain(futures::stream::pending());
            let path = PathAndQuery::from_static(method.path);
            grpc.streaming(request(sent, token), path, ProstCodec::<Q, A>::default()).await
        };
        let begun = timeout(self.attempt, begin).await.unwrap_or_else(|_| Err(not_sent("no stream in time")));
        match begun {
            Ok(answer) => Ok(answer.into_inner().into_stream().boxed()),
            Err(status) => {
                self.failed(member, &status);
                Err(Failure::Unreachable(text(&status)))
            }
        }
    }

    /// What the first answer of a stream tells that tells it.
    pub(super) async fn first<Q, A, T>(
        &self,
        method: Method,
        message: Q,
        tells: impl Fn(&A) -> Option<T>,
    ) -> Result<T, Failure>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + self.patience;
        loop {
            let member = self.at.load(Ordering::Relaxed);
            let method = Method { ..method };
            let answer = async {
                let answers = self.stream(method, message.clone()).await?;
                let told = answers.try_filter_map(|answer| ready(Ok(tells(&answer))));
                match timeout(self.attempt, pin!(told).next()).await {
                    Ok(Some(Ok(told))) => Ok(told),
                    Ok(Some(Err(status))) => {
                        self.failed(member, &status);
                        Err(Failure::Lost(text(&status)))
                    }
                    Ok(None) | Err(_) => {
                        self.leave(member);
                        Err(Failure::Lost("no answer came in time".to_owned()))
                    }
                }
            };
            match answer.await {
                Ok(answer) => return Ok(answer),
                Err(failure) if Instant::now() + LONGEST_PAUSE >= deadline => return Err(failure),
                Err(_) => sleep(LONGEST_PAUSE).await,
            }
        }
    }

    /// Goes on with another member, unless somebody did so already.
    pub(super) fn leave(&self, member: usize) {
        let next = (member + 1) % self.members.len().max(1);
        let _ = self.at.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The member that calls go to now.
    pub(super) fn member(&self) -> usize {
        self.at.load(Ordering::Relaxed)
    }

    /// Notes that a stream failed: the next one gets another member, or another token.
    pub(super) fn failed(&self, member: usize, status: &Status) {
        if judge(status) == Verdict::Token {
            *self.token.lock() = None;
        }
        self.leave(member);
    }

    fn grpc(&self, member: usize) -> Result<tonic::client::Grpc<Channel>, Status> {
        let channel = self.members.get(member).ok_or_else(|| not_sent("there is no such member"))?;
        Ok(tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX))
    }

    /// The user's token, where there is a user.
    async fn token(&self, member: usize) -> Result<Option<AsciiMetadataValue>, Status> {
        let Some(user) = &self.user else { return Ok(None) };
        if let Some(token) = self.token.lock().clone() {
            return Ok(Some(token));
        }
        let mut grpc = self.grpc(member)?;
        grpc.ready().await.map_err(|error| not_sent(&error.to_string()))?;
        let path = PathAndQuery::from_static(Method::AUTHENTICATE.path);
        let codec = ProstCodec::<_, AuthenticateResponse>::default();
        let answer = grpc.unary(request(user.clone(), None), path, codec).await;
        let answer = answer.map_err(|status| match judge(&status) {
            // What the call itself would do was not done, whatever became of this.
            Verdict::Lost => not_sent(status.message()),
            _ => status,
        })?;
        let token = AsciiMetadataValue::try_from(answer.into_inner().token);
        let token = token.map_err(|_| not_sent("etcd's token is no text"))?;
        *self.token.lock() = Some(token.clone());
        Ok(Some(token))
    }
}

fn request<Q>(message: Q, token: Option<AsciiMetadataValue>) -> tonic::Request<Q> {
    let mut request = tonic::Request::new(message);
    let metadata: &mut MetadataMap = request.metadata_mut();
    // A member that lost its cluster refuses at once, and ends its watches.
    metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert("token", token);
    }
    request
}

/// Marks failures that come before anything is sent.
#[derive(Debug, thiserror::Error)]
#[error("not sent")]
struct NotSent;

fn not_sent(text: &str) -> Status {
    let mut status = Status::unavailable(text);
    status.set_source(std::sync::Arc::new(NotSent));
    status
}

/// What a failed call means. Only what etcd itself says is believed: connections make up codes of their own.
fn judge(status: &Status) -> Verdict {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<NotSent>() || error.is::<ConnectError>() {
            return Verdict::NotDone;
        }
        source = error.source();
    }
    let Some(said) = status.message().strip_prefix("etcdserver: ") else {
        return match status.code() {
            Code::Unimplemented => Verdict::Final,
            _ => Verdict::Lost,
        };
    };
    match (status.code(), said) {
        (_, "no leader" | "too many requests" | "not capable") => Verdict::NotDone,
        (Code::Unauthenticated, _) | (_, "revision of auth store is old" | "user name is empty") => {
            Verdict::Token
        }
        (
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented,
            _,
        ) => Verdict::Final,
        _ => Verdict::Lost,
    }
}

/// The status with its causes: a connection's says no more than `transport error` by itself.
fn text(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let said = error.to_string();
        if !error.is::<NotSent>() && !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_never_taken_for_failed() {
        for (status, verdict) in [
            (Status::unavailable("etcdserver: request timed out"), Verdict::Lost),
            (Status::unavailable("etcdserver: leader changed"), Verdict::Lost),
            (Status::unavailable("etcdserver: server stopped"), Verdict::Lost),
            (Status::unknown("transport error"), Verdict::Lost),
            (Status::cancelled("connection closed"), Verdict::Lost),
            (Status::resource_exhausted("h2 protocol error: enhance your calm"), Verdict::Lost),
            (Status::out_of_range("a message that this end cannot read"), Verdict::Lost),
            (Status::deadline_exceeded("no answer came in time"), Verdict::Lost),
            (Status::unavailable("etcdserver: no leader"), Verdict::NotDone),
            (not_sent("refused"), Verdict::NotDone),
            (Status::resource_exhausted("etcdserver: too many requests"), Verdict::NotDone),
            (Status::unauthenticated("etcdserver: invalid auth token"), Verdict::Token),
            (Status::invalid_argument("etcdserver: user name is empty"), Verdict::Token),
            (Status::permission_denied("etcdserver: permission denied"), Verdict::Final),
            (Status::not_found("etcdserver: requested lease not found"), Verdict::Final),
        ] {
            assert_eq!(judge(&status), verdict, "{status:?}");
        }
    }
}
