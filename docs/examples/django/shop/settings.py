"""Settings of the shop; one line of MIDDLEWARE is funnelwatch's."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "only for this example")
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
USE_TZ = True
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "funnelwatch.sessions.DjangoSession",
    "django.middleware.csrf.CsrfViewMiddleware",
]
