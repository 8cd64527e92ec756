//! The rpcs of the service: the bound on what metrics and spans name.

/// The service's full name.
pub const SERVICE: &str = "hablof.logistic_package_api.v1.LogisticPackageApiService";

/// One rpc.
#[derive(Debug, PartialEq, Eq)]
pub struct Rpc {
    /// Its place in [`RPCS`].
    pub number: usize,
    /// As the .proto file has it: `CreatePackageV1`.
    pub method: &'static str,
}

/// All of them.
pub const RPCS: [Rpc; 5] = [
    Rpc { number: 0, method: "CreatePackageV1" },
    Rpc { number: 1, method: "DescribePackageV1" },
    Rpc { number: 2, method: "ListPackagesV1" },
    Rpc { number: 3, method: "RemovePackageV1" },
    Rpc { number: 4, method: "UpdatePackageV1" },
];

impl Rpc {
    /// The rpc at a path such as `/package.Service/Method`.
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        static TABLE: [Rpc; RPCS.len()] = RPCS;
        let method = path.strip_prefix('/')?.strip_prefix(SERVICE)?.strip_prefix('/')?;
        TABLE.iter().find(|rpc| rpc.method == method)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use logistic_package_proto::FILE_DESCRIPTOR_SET;
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn the_table_is_the_service() {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
        let service = pool.get_service_by_name(SERVICE).unwrap();
        let methods: Vec<_> = service.methods().map(|method| method.name().to_owned()).collect();
        assert_eq!(methods, RPCS.map(|rpc| rpc.method));
        for (number, method) in methods.iter().enumerate() {
            assert_eq!(Rpc::at(&format!("/{SERVICE}/{method}")).unwrap().number, number);
        }
        assert_eq!(Rpc::at(&format!("/{SERVICE}/Elsewhere")), None);
        assert_eq!(Rpc::at("/grpc.health.v1.Health/Check"), None);
    }
}
