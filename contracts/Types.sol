// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice keccak256(consentKey ‖ commitment ‖ untilDay), packed. No subject is known on chain.
type ConsentId is bytes32;

/// @notice A consent's state. Withdrawn is final, and may be reached without a grant.
enum ConsentStatus {
    None,
    Active,
    Withdrawn
}

/// @notice A hospital's key. Retired is final.
enum ParticipantStatus {
    None,
    Member,
    Retired
}

/// @notice One signed grant or withdrawal.
/// @param consentKey The single-use key that signed; the recovered signer must equal it.
/// @param commitment hashStruct of the terms, which stay off chain.
/// @param untilDay Days since 1970-01-01 UTC; 2^32-1 is a consent without an end.
/// @param r First half of the ERC-2098 signature.
/// @param vs Second half of the ERC-2098 signature: parity bit and s, low s only.
struct Item {
    address consentKey;
    bytes32 commitment;
    uint32 untilDay;
    bytes32 r;
    bytes32 vs;
}
