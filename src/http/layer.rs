//! What happens to every request before its handler and to every answer after it. One layer, because each layer of actix
//! costs every request several allocations; what the steps do stands in modules of their own.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};

use super::problem::Problem;
use super::{Context, bodies, compression, forwarded, guard, head, problem};

/// Takes a request to its handler and the answer back.
///
/// # Errors
/// Those of the framework, which have a response of their own. Handlers answer their errors as responses.
pub async fn around(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if let Some(context) = request.app_data::<web::Data<Context>>() {
        context.hub.metrics().requests.inc();
        context.proxies.notice(&request);
    }
    let is_head = request.method() == Method::HEAD;
    let coding = compression::Asked::by(&request);
    let bounds = bodies::bound(&mut request);
    let mut response = match forwarded::has_bad_host(&request) {
        false => next.call(request).await?.map_into_boxed_body(),
        true => request.into_response(Problem::bad_host().error_response()),
    };
    if let Some(bounds) = bounds {
        response = bounds.judge(response);
    }
    guard::quota_headers(&mut response);
    response = problem::shape(coding.compress(response).await);
    Ok(if is_head { head::without_body(response) } else { response })
}
