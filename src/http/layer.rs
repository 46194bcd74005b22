//! What happens to every request before its handler and to every answer after it. One layer, because each layer of actix
//! costs every request several allocations; what the steps do stands in modules of their own.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};

use super::problem::Problem;
use super::{Context, bodies, compression, forwarded, guard, head, peers, problem};

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
    let context = request.app_data::<web::Data<Context>>().filter(|context| peers::may_be_elsewhere(context)).cloned();
    let elsewhere = match &context {
        _ if forwarded::has_bad_host(&request) => Some(Problem::bad_host().error_response()),
        Some(context) => peers::ask_elsewhere(context, &mut request).await,
        None => None,
    };
    let mut response = match elsewhere {
        Some(answer) => request.into_response(answer),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    if let Some(context) = &context {
        peers::name_node(context, &mut response);
    }
    if let Some(bounds) = bounds {
        response = bounds.judge(response);
    }
    guard::quota_headers(&mut response);
    response = problem::shape(coding.compress(response).await);
    Ok(if is_head { head::without_body(response) } else { response })
}
