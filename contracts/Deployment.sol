// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title What a signature is valid for: one deployment, on whatever chain and at whatever address
/// @dev The EIP-712 domain is {name, version, salt = deployment id}, without chain id and contract
/// address, so that signatures outlive a contract fix and a move to another network. The domain is
/// therefore not OpenZeppelin's EIP712, which binds both.
abstract contract Deployment {
    /// @notice A deployment id of zero was given.
    error DeploymentIdMissing();

    bytes32 private constant _DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,bytes32 salt)");

    /// @notice Names this deployment; salt of the EIP-712 domain.
    bytes32 public immutable deploymentId;

    /// @notice EIP-712 domain separator of every message of this deployment.
    bytes32 public immutable domainSeparator;

    constructor(bytes32 deploymentId_) {
        if (deploymentId_ == 0) revert DeploymentIdMissing();
        deploymentId = deploymentId_;
        domainSeparator = keccak256(
            abi.encode(_DOMAIN_TYPE, keccak256("Assent"), keccak256("1"), deploymentId_)
        );
    }

    /// @dev Returns the zero address for a signature of another length, a high s or no key at all.
    function _signerOf(bytes32 structHash, bytes calldata signature) internal view returns (address) {
        if (signature.length != 64) return address(0);
        return _signerOf(structHash, bytes32(signature[:32]), bytes32(signature[32:]));
    }

    function _signerOf(bytes32 structHash, bytes32 r, bytes32 vs) internal view returns (address) {
        bytes32 digest = MessageHashUtils.toTypedDataHash(domainSeparator, structHash);
        (address signer, ECDSA.RecoverError problem, ) = ECDSA.tryRecover(digest, r, vs);
        return problem == ECDSA.RecoverError.NoError ? signer : address(0);
    }
}
