"""Every webhook sample of other projects, and what each is read into."""

from __future__ import annotations

import json
from typing import Final

import pytest

from otpost_worker.updates import (
    AccountChange,
    Ignored,
    MessageReport,
    NumberChange,
    Preference,
    ProviderError,
    Reported,
    TemplateCategory,
    TemplateQuality,
    TemplateStatus,
    Update,
)
from otpost_worker.webhook_bodies import read_updates
from webhook_samples import webhook_samples

SAMPLES: Final = webhook_samples()
WABA: Final = "102290129340398"
JAVA_WABA: Final = "whatsapp-business-account-id"
NUMBER_ID: Final = "106540352242922"
PYWA_NUMBER_ID: Final = "1122334455667"
BSUID_WAMID: Final = "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQUFERjg0NDEzNDdFODU3MUMxMAA="
REJECTED: Final = (
    "Your template has parameters placed next to each other (like {{1}}{{2}}) without text or punctuation between "
    "them; Separate parameters with descriptive text and ensure each parameter is clearly contextualized"
)
FLAGGED: Final = TemplateStatus(
    JAVA_WABA,
    "My message template",
    "en_US",
    "FLAGGED",
    None,
    1604703141.0,
    detail="to be disabled on January 31, 2021",
)

EXPECTED: Final[dict[str, Update]] = {
    "pywa/account_update:account_deleted": AccountChange(
        WABA, "ACCOUNT_DELETED", blocked=True, detail=None, at=1743451903.0
    ),
    "pywa/account_update:account_restriction": AccountChange(
        WABA,
        "ACCOUNT_RESTRICTION",
        blocked=True,
        detail="RESTRICTED_BIZ_INITIATED_MESSAGING until 2022-01-04T21:08:18.000Z; "
        "RESTRICTED_ADD_PHONE_NUMBER_ACTION until 2022-01-04T21:08:18.000Z",
        at=1641330498.0,
        until=1641330498.0,
    ),
    "pywa/account_update:account_violation": AccountChange(
        WABA, "ACCOUNT_VIOLATION", blocked=None, detail="ADULT", at=1743451903.0, grave=True
    ),
    "pywa/account_update:ad_account_linked": AccountChange(
        "980198427658004", "AD_ACCOUNT_LINKED", blocked=None, detail=None, at=1744823932.0
    ),
    "pywa/account_update:authentication_international_eligibility": AccountChange(
        WABA, "AUTH_INTL_PRICE_ELIGIBILITY_UPDATE", blocked=None, detail=None, at=1743451903.0
    ),
    "pywa/account_update:account_disabled": AccountChange(
        WABA, "DISABLED_UPDATE", blocked=False, detail="REINSTATE on April 17, 2025", at=1743451903.0
    ),
    "pywa/account_update:mm_api_for_wa_terms_of_service": AccountChange(
        "980198427658004", "MM_LITE_TERMS_SIGNED", blocked=None, detail=None, at=1744823932.0
    ),
    "pywa/account_update:partner_added": AccountChange(
        "980198427658004", "PARTNER_ADDED", blocked=None, detail=None, at=1744823932.0
    ),
    "pywa/account_update:partner_app_installed": AccountChange(
        "1191624265890717", "PARTNER_APP_INSTALLED", blocked=None, detail=None, at=1745337174.0
    ),
    "pywa/account_update:partner_app_uninstalled": AccountChange(
        "184943124712545", "PARTNER_APP_UNINSTALLED", blocked=None, detail=None, at=1748477359.0
    ),
    "pywa/account_update:partner_led_business_verification_status": AccountChange(
        WABA, "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE", blocked=None, detail=None, at=1743138982.0
    ),
    "pywa/account_update:partner_removed": AccountChange(
        "980198427658004", "PARTNER_REMOVED", blocked=None, detail=None, at=1748477359.0, grave=True
    ),
    "pywa/account_update:partner_removed_wa_app_disconnection": AccountChange(
        "980198427658004", "PARTNER_REMOVED", blocked=None, detail="PRIMARY_INACTIVITY", at=1748477359.0, grave=True
    ),
    "pywa/account_update:primary_business_location_set": AccountChange(
        WABA, "BUSINESS_PRIMARY_LOCATION_COUNTRY_UPDATE", blocked=None, detail=None, at=1743138982.0
    ),
    "pywa/account_update:pricing_tiering_update": AccountChange(
        WABA, "VOLUME_BASED_PRICING_TIER_UPDATE", blocked=None, detail=None, at=1743451903.0
    ),
    "pywa/account_update:account_offboarded": AccountChange(
        WABA, "ACCOUNT_OFFBOARDED", blocked=True, detail=None, at=1743451903.0
    ),
    "pywa/account_update:account_reconnected": AccountChange(
        WABA, "ACCOUNT_RECONNECTED", blocked=False, detail=None, at=1743451903.0
    ),
    "pywa/message_status:sent": MessageReport(
        Reported.SENT, "wamid.xyzxyz", None, 1698266945.0, number_id=PYWA_NUMBER_ID
    ),
    "pywa/message_status:delivered": MessageReport(
        Reported.DELIVERED, "wamid.xyzxyz", None, 1698266945.0, number_id=PYWA_NUMBER_ID
    ),
    "pywa/message_status:read": MessageReport(
        Reported.READ, "wamid.xyzxyz", None, 1689380458.0, number_id=PYWA_NUMBER_ID
    ),
    "pywa/message_status:played": Ignored("status played"),
    "pywa/message_status:failed": MessageReport(
        Reported.FAILED,
        "wamid.xyzxyz",
        None,
        1689380458.0,
        ProviderError(
            130472,
            "User's number is part of an experiment",
            "Failed to send message because this user's phone number is part of an experiment",
        ),
        PYWA_NUMBER_ID,
    ),
    "pywa/message_status:with_tracker": MessageReport(
        Reported.SENT, "wamid.xyzxyz", "some data", 1698266945.0, number_id=PYWA_NUMBER_ID
    ),
    "pywa/message_status:group": MessageReport(
        Reported.READ, "<WHATSAPP_MESSAGE_ID>", None, 1698266945.0, number_id="<BUSINESS_PHONE_NUMBER_ID>"
    ),
    "pywa/template_category_update:marketing": TemplateCategory(
        "57438975935", "my_message_template", "he", "MARKETING", impending=False, at=1750344882.0
    ),
    "pywa/template_quality_update:yellow": TemplateQuality(WABA, "welcome_template", "en_US", "YELLOW", 1674864290.0),
    "pywa/template_status_update:approved": TemplateStatus(
        WABA, "order_confirmation", "en_US", "APPROVED", None, 1751247548.0
    ),
    "pywa/template_status_update:rejected": TemplateStatus(
        WABA, "abandoned_cart", "en", "REJECTED", "INVALID_FORMAT", 1751247548.0, detail=REJECTED
    ),
    "pywa/user_marketing_preferences:resume": Preference("resume"),
    "pywa/user_marketing_preferences:signup": Preference("signup"),
    "restfb/webhook-incoming-message-status-bsuid": MessageReport(
        Reported.DELIVERED, BSUID_WAMID, None, 1750030073.0, number_id=NUMBER_ID
    ),
    "restfb/webhook-incoming-message-status-group-bsuid": MessageReport(
        Reported.READ, BSUID_WAMID, None, 1750030173.0, number_id=NUMBER_ID
    ),
    "restfb/webhook-incoming-message-status-ui": MessageReport(
        Reported.SENT, "wamid.ID", None, None, number_id="10634295353625"
    ),
    "restfb/webhook-messageTemplateStatusUpdate-disabling": FLAGGED,
    "whaloc/account-restriction": AccountChange(
        WABA,
        "ACCOUNT_RESTRICTION",
        blocked=True,
        detail="RESTRICTED_BIZ_INITIATED_MESSAGING until 2025-05-29T17:46:34.000Z",
        at=1748454394.0,
        until=1748540794.0,
    ),
    "whaloc/phone-number-quality": NumberChange(
        WABA, "15550783881", "THROUGHPUT_UPGRADE", "limit TIER_UNLIMITED", 1748454394.0
    ),
    "whaloc/status-failed": MessageReport(
        Reported.FAILED,
        "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI0QUQ2MjA4NEYyRkExNjMyREUA",
        None,
        1751142888.0,
        ProviderError(
            131049,
            "This message was not delivered to maintain healthy ecosystem engagement.",
            "In order to maintain a healthy ecosystem engagement, the message failed to be delivered.",
        ),
        NUMBER_ID,
    ),
    "whaloc/status-sent": MessageReport(Reported.SENT, BSUID_WAMID, None, 1750030073.0, number_id=NUMBER_ID),
    "whaloc/template-approved": TemplateStatus(WABA, "order_confirmation", "en_US", "APPROVED", None, 1751247548.0),
    "whaloc/template-quality": TemplateQuality(WABA, "welcome_template", "en_US", "YELLOW", 1674864290.0),
    "whaloc/template-rejected": TemplateStatus(
        WABA, "abandoned_cart", "en", "REJECTED", "INVALID_FORMAT", 1751247548.0, detail=REJECTED
    ),
    "whaloc/text-message": Ignored("message text"),
    "whatsapp-business-java-api/accountBanned": AccountChange(
        JAVA_WABA,
        "DISABLED_UPDATE",
        blocked=None,
        detail="SCHEDULE_FOR_DISABLE on January 31, 2021",
        at=1604703058.0,
        grave=True,
    ),
    "whatsapp-business-java-api/accountRestricted": AccountChange(
        JAVA_WABA,
        "ACCOUNT_RESTRICTION",
        blocked=True,
        detail="RESTRICTED_ADD_PHONE_NUMBER_ACTION; RESTRICTED_BIZ_INITIATED_MESSAGING; "
        "RESTRICTED_CUSTOMER_INITIATED_MESSAGING",
        at=1604703141.0,
    ),
    "whatsapp-business-java-api/accountReview": AccountChange(
        JAVA_WABA, "ACCOUNT_REVIEW_UPDATE", blocked=None, detail="APPROVED", at=1604703141.0
    ),
    "whatsapp-business-java-api/qualityUpdate": NumberChange(
        "waba-id", "16505551111", "FLAGGED", "limit TIER_10K", 1608243062.0, grave=True
    ),
    "whatsapp-business-java-api/reEngagementMessageError": MessageReport(
        Reported.FAILED,
        "wamid.HBgNN5NzAzMDkTUyNzkzNhUEjA1MjUwNCAUIyNEYUQ0OTVGNTY0MwA=",
        None,
        1682651887.0,
        ProviderError(
            131047,
            "Re-engagement message",
            "Message failed to send because more than 24 hours have passed since the customer last replied to this "
            "number.",
        ),
        "109999999999999",
    ),
    "whatsapp-business-java-api/templateSchedulingForDisabling": FLAGGED,
}


def test_there_is_an_expectation_for_every_sample() -> None:
    assert EXPECTED.keys() == SAMPLES.keys()


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_of_another_project_is_read_into_what_it_says(sample: str) -> None:
    assert read_updates(json.dumps(SAMPLES[sample]).encode()) == [EXPECTED[sample]]


def test_entries_of_several_samples_in_one_body_are_read_in_their_order() -> None:
    entries = [entry for sample in SAMPLES.values() for entry in sample["entry"]]
    updates = read_updates(json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode())
    told = [EXPECTED[sample] for sample in SAMPLES]
    assert updates == [
        *(update for update in told if not isinstance(update, Ignored)),
        Ignored("status played"),
        Ignored("message text"),
    ]
