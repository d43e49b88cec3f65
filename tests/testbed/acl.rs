//! ACLs, spoken straight to a broker: Kafka's own tool takes a second for each principal, and librdkafka's Rust has none.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{
    CreateAclsRequest, DescribeAclsRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// Of CreateAcls and DescribeAcls, from Kafka 2.8 on.
const VERSION: i16 = 2;
/// The exact name, not a prefix of it.
const LITERAL: i8 = 3;
const ANY: i8 = 1;
/// `AclOperation`'s and `ResourceType`'s names by their numbers on the wire.
const OPERATIONS: [(&str, i8); 10] = [
    ("Read", 3),
    ("Write", 4),
    ("Create", 5),
    ("Delete", 6),
    ("Alter", 7),
    ("Describe", 8),
    ("ClusterAction", 9),
    ("DescribeConfigs", 10),
    ("AlterConfigs", 11),
    ("IdempotentWrite", 12),
];
const RESOURCES: [(&str, i8); 4] = [
    ("topic", 2),
    ("group", 3),
    ("cluster", 4),
    ("transactional id", 5),
];

/// What one principal may, or may not, do to one resource. Names are those of `kafka-acls.sh`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    principal: String,
    operation: i8,
    resource: (i8, String),
    permission: i8,
}

fn number(names: &[(&str, i8)], name: &str) -> i8 {
    let found = names.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("Kafka knows no {name}")).1
}

impl Acl {
    /// Lets the user of this name do `operation` to a `topic`, a `group`, a `transactional id` or the `cluster`.
    pub fn allow(user: &str, operation: &str, resource: &str, name: &str) -> Self {
        let name = match resource {
            "cluster" => "kafka-cluster",
            _ => name,
        };
        Self {
            principal: format!("User:{user}"),
            operation: number(&OPERATIONS, operation),
            resource: (number(&RESOURCES, resource), name.to_owned()),
            permission: 3,
        }
    }

    /// Forbids it, whatever else is allowed.
    pub fn deny(user: &str, operation: &str, resource: &str, name: &str) -> Self {
        Self {
            permission: 2,
            ..Self::allow(user, operation, resource, name)
        }
    }

    fn creation(&self) -> AclCreation {
        AclCreation::default()
            .with_resource_type(self.resource.0)
            .with_resource_name(text(&self.resource.1))
            .with_resource_pattern_type(LITERAL)
            .with_principal(text(&self.principal))
            .with_host(text("*"))
            .with_operation(self.operation)
            .with_permission_type(self.permission)
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Adds ACLs through the plaintext listener at `address`, and waits until the broker follows them.
pub fn add(address: &str, acls: &[Acl]) {
    let mut connection = TcpStream::connect(address).unwrap();
    let creations = acls.iter().map(Acl::creation).collect();
    let request = CreateAclsRequest::default().with_creations(creations);
    for result in call(&mut connection, &request).results {
        assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let wanted: BTreeSet<Acl> = acls.iter().cloned().collect();
    while !wanted.is_subset(&listed(&mut connection)) {
        assert!(Instant::now() < deadline, "the broker does not follow");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn listed(connection: &mut TcpStream) -> BTreeSet<Acl> {
    let request = DescribeAclsRequest::default()
        .with_resource_type_filter(ANY)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(ANY)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY);
    let resources = call(connection, &request).resources.into_iter();
    let acls = resources.flat_map(|resource| {
        let of = (resource.resource_type, resource.resource_name.to_string());
        resource.acls.into_iter().map(move |acl| Acl {
            principal: acl.principal.to_string(),
            operation: acl.operation,
            resource: of.clone(),
            permission: acl.permission_type,
        })
    });
    acls.collect()
}

fn call<R: Request>(connection: &mut TcpStream, request: &R) -> R::Response {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(VERSION);
    let mut bytes = BytesMut::new();
    header
        .encode(&mut bytes, R::header_version(VERSION))
        .unwrap();
    request.encode(&mut bytes, VERSION).unwrap();
    let mut framed = BytesMut::new();
    framed.put_u32(u32::try_from(bytes.len()).unwrap());
    framed.put(bytes);
    connection.write_all(&framed).unwrap();
    let mut length = [0; 4];
    connection.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    connection.read_exact(&mut answer).unwrap();
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(VERSION)).unwrap();
    R::Response::decode(&mut answer, VERSION).unwrap()
}
