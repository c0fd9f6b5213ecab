//! What the API's document says besides its routes.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Galen aggregator",
        description = "Events that the agents of a fleet caught, their evidence, and the state of the fleet. \
                       Once tokens or certificates are configured, whoever asks needs a role: a token in the header \
                       `authorization`, or the certificate of a user.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    security((), ("token" = [])),
    modifiers(&Token),
)]
pub(super) struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_route_of_the_api_is_described() {
        let document = super::super::api().into_openapi();
        let paths: Vec<_> = document.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "/api/v1/events",
                "/api/v1/events/stream",
                "/api/v1/events/{node}/{epoch}/{seq}",
                "/api/v1/events/{node}/{epoch}/{seq}/flame.folded",
                "/api/v1/events/{node}/{epoch}/{seq}/flame.svg",
                "/api/v1/events/{node}/{epoch}/{seq}/profile.pb.gz",
                "/api/v1/incidents",
                "/api/v1/incidents/stream",
                "/api/v1/incidents/{id}",
                "/api/v1/ledger",
                "/api/v1/nodes",
                "/api/v1/status",
                "/healthz",
                "/metrics",
                "/metrics/nodes",
                "/readyz",
            ]
        );
        for (path, item) in document.paths.paths {
            let get = item.get.unwrap_or_else(|| panic!("{path} has no GET"));
            assert!(get.summary.or(get.description).is_some_and(|text| text.len() > 10), "{path}");
            assert!(get.responses.responses.contains_key("200"), "{path}");
        }
    }
}
