"""The form that asks for the code of a text message."""

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import ensure_csrf_cookie

from funnelwatch import current_step


@ensure_csrf_cookie
def code(request: HttpRequest) -> HttpResponse:
    """Show the form, or verify the code; a wrong code shows the form again, with status 200."""
    if request.method == "POST" and request.POST.get("code") != "1234":
        current_step().failure(reason="WRONG_CODE")
        return HttpResponse("Once more")
    return HttpResponse("Welcome" if request.method == "POST" else "Which code did we send you?")


urlpatterns = [path("sign-up/code", code)]
