//! Kubernetes' API machinery: kinds, client, informers and, behind features, the API server.
