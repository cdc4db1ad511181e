"""Countries (ISO 3166-1), their domains, and where the speakers of languages live."""

from __future__ import annotations

_codes = """
    ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs bt bv bw by bz ca cc
    cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et fi fj fk fm fo fr ga gb gd
    ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh
    ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw
    mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc
    sd se sg sh si sj sk sl sm sn so sr ss st sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug um us uy
    uz va vc ve vg vi vn vu wf ws ye yt za zm zw
"""
CODES = frozenset(_codes.split())
TOP_LEVEL = CODES | {"ac", "eu", "su", "tp", "uk"}  # domains that stand for a country or a union

# Where most of the speakers of a language live. Not here: Arabic, English, Spanish and others of many countries.
_HOMES = """
    am:et as:in az:az be:by bg:bg bn:bd bs:ba ca:es cs:cz cy:gb da:dk de:de dz:bt el:gr et:ee eu:es fa:ir fi:fi fil:ph
    fo:fo fr:fr ga:ie gd:gb gl:es gu:in gsw:ch haw:us he:il hi:in hr:hr ht:ht hu:hu hy:am id:id is:is it:it ja:jp ka:ge
    kk:kz kl:gl km:kh kn:in ko:kr ky:kg lb:lu lo:la lt:lt lv:lv mi:nz mk:mk ml:in mn:mn mr:in mt:mt my:mm nb:no ne:np
    nl:nl nn:no no:no or:in pl:pl ps:af pt:br ro:ro ru:ru rw:rw si:lk sk:sk sl:si sm:ws so:so sq:al sr:rs sv:se ta:in
    te:in tg:tj th:th tk:tm tr:tr uk:ua ur:pk uz:uz vi:vn zh:cn
"""
HOMES = dict(entry.split(":") for entry in _HOMES.split())
