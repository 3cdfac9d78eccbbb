"""The WSGI app, with funnelwatch around it."""

import os

from django.core.wsgi import get_wsgi_application

from funnelwatch import FunnelProducer, FunnelWsgi, sessions

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

application = FunnelWsgi(
    get_wsgi_application(),
    FunnelProducer(app_version="5.2.0"),
    {"/sign-up/code": "VERIFY_SMS_CODE"},
    session=sessions.django,
)
