//! Rules of probes and of what runs at a container's start and end.

use k8s_openapi::api::core::v1::{
    ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec, Probe, SleepAction, TCPSocketAction,
};

use crate::{
    kinds::shared::{checks, container::View, items, text},
    meta::{ErrorList, FieldError, FieldPath, names},
};

/// Checks the probes and hooks of a container that has them.
pub(super) fn validate(spec: &PodSpec, view: &View<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(lifecycle) = view.lifecycle {
        hooks(lifecycle, spec, &path.child("lifecycle"), errors);
    }
    if let Some(liveness) = view.liveness_probe {
        let path = path.child("livenessProbe");
        probe(liveness, &path, errors);
        succeeds_once(liveness, &path, errors);
    }
    if let Some(readiness) = view.readiness_probe {
        let path = path.child("readinessProbe");
        probe(readiness, &path, errors);
        if let Some(seconds) = readiness.termination_grace_period_seconds {
            errors.push(FieldError::invalid(
                &path.child("terminationGracePeriodSeconds"),
                seconds,
                "must not be set for readinessProbes",
            ));
        }
    }
    if let Some(startup) = view.startup_probe {
        let path = path.child("startupProbe");
        probe(startup, &path, errors);
        succeeds_once(startup, &path, errors);
    }
}

fn succeeds_once(probe: &Probe, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let threshold = probe.success_threshold.unwrap_or(0);
    if threshold != 1 {
        errors.push(FieldError::invalid(&path.child("successThreshold"), threshold, "must be 1"));
    }
}

fn probe(probe: &Probe, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let actions = Actions {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc_port: probe.grpc.as_ref().map(|grpc| grpc.port),
        sleep: None,
    };
    actions.validate(None, path, errors);
    for (field, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.non_negative(&path.child(field), i64::from(number.unwrap_or(0)));
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|&seconds| seconds <= 0) {
        errors.push(FieldError::invalid(
            &path.child("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
}

fn hooks(lifecycle: &Lifecycle, spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (field, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(handler) = handler {
            Actions::of(handler).validate(spec.termination_grace_period_seconds, &path.child(field), errors);
        }
    }
    if let Some(signal) = &lifecycle.stop_signal {
        stop_signal(signal, spec, &path.child("stopSignal"), errors);
    }
}

/// What a probe or hook may do; exactly one.
struct Actions<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc_port: Option<i32>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> Actions<'a> {
    fn of(handler: &'a LifecycleHandler) -> Self {
        Self {
            exec: handler.exec.as_ref(),
            http_get: handler.http_get.as_ref(),
            tcp_socket: handler.tcp_socket.as_ref(),
            grpc_port: None,
            sleep: handler.sleep.as_ref(),
        }
    }

    fn validate(&self, grace_period: Option<i64>, path: &FieldPath<'_>, errors: &mut ErrorList) {
        let mut count = 0;
        let mut first = |field: &str, errors: &mut ErrorList| {
            count += 1;
            if count > 1 {
                let detail = "may not specify more than 1 handler type";
                errors.push(FieldError::forbidden(&path.child(field), detail));
            }
            count == 1
        };
        if let Some(exec) = self.exec
            && first("exec", errors)
            && items(&exec.command).is_empty()
        {
            errors.push(FieldError::required(&path.child("exec").child("command"), ""));
        }
        if let Some(get) = self.http_get
            && first("httpGet", errors)
        {
            http_get(get, &path.child("httpGet"), errors);
        }
        if let Some(tcp) = self.tcp_socket
            && first("tcpSocket", errors)
        {
            checks::port_or_name(&tcp.port, &path.child("tcpSocket").child("port"), errors);
        }
        if let Some(port) = self.grpc_port
            && first("grpc", errors)
        {
            checks::port(port, &path.child("grpc").child("port"), errors);
        }
        if let Some(sleep) = self.sleep
            && first("sleep", errors)
            && let Some(most) = grace_period
            && !(0..=most).contains(&sleep.seconds)
        {
            let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({most})");
            errors.push(FieldError::invalid(&path.child("sleep"), sleep.seconds, detail));
        }
        if count == 0 {
            errors.push(FieldError::required(path, "must specify a handler type"));
        }
    }
}

fn http_get(get: &HTTPGetAction, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::required(text(&get.path), &path.child("path"), errors);
    checks::port_or_name(&get.port, &path.child("port"), errors);
    checks::supported(text(&get.scheme), &["HTTP", "HTTPS"], &path.child("scheme"), errors);
    for header in items(&get.http_headers) {
        let messages = names::http_header_name(&header.name);
        errors.push_messages(&path.child("httpHeaders"), &header.name, messages);
    }
}

fn stop_signal(signal: &str, spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match spec.os.as_ref().map(|os| os.name.as_str()) {
        None => errors
            .push(FieldError::forbidden(path, "may not be set for containers with empty `spec.os.name`")),
        Some("windows") => checks::supported(signal, &["SIGKILL", "SIGTERM"], path, errors),
        Some("linux") if !is_linux_signal(signal) => {
            errors.push(FieldError::not_supported(path, signal, &SIGNALS));
        }
        Some(_) => {}
    }
}

const SIGNALS: [&str; 36] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

fn is_linux_signal(signal: &str) -> bool {
    let within = |rest: &str, most: u8| {
        let canonical = !rest.starts_with('0') && rest.bytes().all(|b| b.is_ascii_digit());
        canonical && rest.parse::<u8>().is_ok_and(|number| (1..=most).contains(&number))
    };
    SIGNALS.contains(&signal)
        || signal.strip_prefix("SIGRTMIN+").is_some_and(|rest| within(rest, 15))
        || signal.strip_prefix("SIGRTMAX-").is_some_and(|rest| within(rest, 14))
}
