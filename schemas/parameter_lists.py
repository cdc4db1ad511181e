"""Names of URL parameters that rules are made of: campaigns, site searches, click ids and sessions, personal data."""

from __future__ import annotations

CAMPAIGN_FIELDS: dict[str, tuple[str, ...]] = {
    "name": ("mtm_campaign", "matomo_campaign", "mtm_cpn", "pk_campaign", "piwik_campaign", "pk_cpn", "utm_campaign"),
    "source": ("mtm_source", "matomo_source", "pk_source", "piwik_source", "utm_source"),
    "medium": ("mtm_medium", "matomo_medium", "pk_medium", "piwik_medium", "utm_medium"),
    "term": ("mtm_keyword", "mtm_kwd", "matomo_kwd", "pk_keyword", "pk_kwd", "piwik_kwd", "utm_term"),
    "content": ("mtm_content", "matomo_content", "pk_content", "piwik_content", "utm_content"),
}
CAMPAIGN_PARAMETERS = frozenset(name for names in CAMPAIGN_FIELDS.values() for name in names)

SEARCH_PARAMETERS = frozenset({"q", "query", "s", "search", "searchword", "k", "keyword"})

# Matomo's list of parameters that no report needs: click ids and sessions.
_sessions = """
    gclid fbclid msclkid twclid wbraid gbraid yclid fb_xd_fragment fb_comment_id phpsessid jsessionid
    sessionid aspsessionid doing_wp_cron sid pk_vid ignore_referrer ignore_referer
"""
SESSION_PARAMETERS = frozenset(_sessions.split())

# Matomo's names of form fields that hold personal data; `-` and `_` in a name are ignored when it is compared.
_personal = """
    creditcardnumber off kreditkarte debitcard kreditkort kredietkaart kartakredytowa cvv cc ccc cccsc cccvc ccexpiry
    ccexpyear ccexpmonth cccvv cctype cvc exp ccname cardnumber ccnumber username creditcard name fullname familyname
    firstname vorname nachname lastname nickname surname login formlogin konto user website domain gender company firma
    geschlecht email emailaddress emailadresse mail epos ebost epost eposta authpw tokenauth token pin ibanaccountnum
    ibanaccountnumber account accountnum auth age alter tel city cell cellphone bic iban swift kontonummer kontonr phone
    mobile mobiili mobilne handynummer téléphone telefono ssn socialsecuritynumber socialsec socsec address addressline1
    addressline2 billingaddress billingaddress1 billingaddress2 shippingaddress shippingaddress1 shippingaddress2 vat
    vatnumber gst gstnumber tax taxnumber steuernummer adresse indirizzo adres dirección osoite address1 address2
    address3 street strasse rue via ulica calle sokak zip zipcode plz postleitzahl postalcode postcode dateofbirth dob
    telephone telefon telefonnr telefonnummer password passwort kennwort wachtwoord contraseña passord hasło heslo
    wagwoord parole contrasenya clientid identifier id consumersecret webhooksecret consumerkey keyconsumersecret
    keyconsumerkey clientsecret secret secretq secretquestion privatekey publickey pw pwd pwrd pword paword pasword
    paswort pass
"""
PERSONAL_PARAMETERS = frozenset(_personal.split())
EXCLUSION_LISTS = {"sessions": SESSION_PARAMETERS, "personal": PERSONAL_PARAMETERS}
