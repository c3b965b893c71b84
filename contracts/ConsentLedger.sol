// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Deployment} from "./Deployment.sol";
import {IConsentLedger} from "./IConsentLedger.sol";
import {ConsentId, ConsentStatus, Item} from "./Types.sol";

/// @title Consents on the chain, one storage slot each, and nothing else
/// @dev Recovery always yields some address, so an item is rejected unless that address is the one
/// it names: otherwise a flipped bit or another domain would be stored as a consent of its own.
contract ConsentLedger is IConsentLedger, Deployment {
    struct _Slot {
        ConsentStatus status;
        uint32 untilDay;
    }

    bytes32 private constant _GRANT = keccak256("Grant(bytes32 commitment,uint32 untilDay)");
    bytes32 private constant _WITHDRAW = keccak256("Withdraw(bytes32 commitment,uint32 untilDay)");

    mapping(ConsentId id => _Slot) private _slots;

    constructor(bytes32 deploymentId_) Deployment(deploymentId_) {}

    /// @inheritdoc IConsentLedger
    function grant(Item calldata item) external {
        ConsentId id = _idOf(item);
        _require(_grant(id, item), id);
    }

    /// @inheritdoc IConsentLedger
    function withdraw(Item calldata item) external {
        ConsentId id = _idOf(item);
        _require(_withdraw(id, item), id);
    }

    /// @inheritdoc IConsentLedger
    function grantBatch(Item[] calldata items) external {
        for (uint256 i = 0; i < items.length; ++i) {
            ConsentId id = _idOf(items[i]);
            bytes4 problem = _grant(id, items[i]);
            if (problem != 0) emit ItemRejected(i, id, problem);
        }
    }

    /// @inheritdoc IConsentLedger
    function withdrawBatch(Item[] calldata items) external {
        for (uint256 i = 0; i < items.length; ++i) {
            ConsentId id = _idOf(items[i]);
            bytes4 problem = _withdraw(id, items[i]);
            if (problem != 0) emit ItemRejected(i, id, problem);
        }
    }

    /// @inheritdoc IConsentLedger
    function statusOf(ConsentId id) external view returns (ConsentStatus status, uint32 untilDay) {
        _Slot memory slot = _slots[id];
        return (slot.status, slot.untilDay);
    }

    /// @inheritdoc IConsentLedger
    function inForce(ConsentId id, uint32 day) external view returns (bool) {
        _Slot memory slot = _slots[id];
        return slot.status == ConsentStatus.Active && day <= slot.untilDay;
    }

    /// @dev Returns the selector of the error that stands in the way, or zero after storing.
    function _grant(ConsentId id, Item calldata item) private returns (bytes4) {
        if (!_signedByItsKey(_GRANT, item)) return NotTheConsentKey.selector;
        ConsentStatus status = _slots[id].status;
        if (status == ConsentStatus.Active) return AlreadyActive.selector;
        if (status == ConsentStatus.Withdrawn) return AlreadyWithdrawn.selector;
        _slots[id] = _Slot(ConsentStatus.Active, item.untilDay);
        emit Granted(id);
        return 0;
    }

    function _withdraw(ConsentId id, Item calldata item) private returns (bytes4) {
        if (!_signedByItsKey(_WITHDRAW, item)) return NotTheConsentKey.selector;
        if (_slots[id].status == ConsentStatus.Withdrawn) return AlreadyWithdrawn.selector;
        _slots[id] = _Slot(ConsentStatus.Withdrawn, 0);
        emit Withdrawn(id);
        return 0;
    }

    function _signedByItsKey(bytes32 messageType, Item calldata item) private view returns (bool) {
        bytes32 structHash = keccak256(abi.encode(messageType, item.commitment, item.untilDay));
        address signer = _signerOf(structHash, item.r, item.vs);
        return signer != address(0) && signer == item.consentKey;
    }

    function _idOf(Item calldata item) private pure returns (ConsentId) {
        return ConsentId.wrap(
            keccak256(abi.encodePacked(item.consentKey, item.commitment, item.untilDay))
        );
    }

    function _require(bytes4 problem, ConsentId id) private pure {
        if (problem == NotTheConsentKey.selector) revert NotTheConsentKey(id);
        if (problem == AlreadyActive.selector) revert AlreadyActive(id);
        if (problem == AlreadyWithdrawn.selector) revert AlreadyWithdrawn(id);
    }
}
