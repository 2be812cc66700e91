//! The AWS managed policies that tasks and their tools attach (documents: "AWS managed policies for Amazon ECS" and
//! "… for Amazon ECR", and the AWS Managed Policy Reference Guide).

/// One AWS managed policy.
pub(super) struct Managed {
    /// Path and name after `arn:aws:iam::aws:policy`.
    pub path: &'static str,
    /// The name.
    pub name: &'static str,
    /// The document.
    pub document: &'static str,
}

impl Managed {
    /// `arn:aws:iam::aws:policy/…`.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::aws:policy{}{}", self.path, self.name)
    }

    /// A stable id: AWS's own ids of its policies are opaque.
    pub fn id(&self) -> String {
        super::roles::id_of("ANPA", &self.arn())
    }
}

/// The policy of an ARN.
pub(super) fn find(arn: &str) -> Option<&'static Managed> {
    MANAGED.iter().find(|policy| policy.arn() == arn)
}

/// All that are known here. Others are answered as AWS answers a policy that does not exist.
pub(super) const MANAGED: &[Managed] = &[
    Managed {
        path: "/",
        name: "AdministratorAccess",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#,
    },
    Managed {
        path: "/service-role/",
        name: "AmazonECSTaskExecutionRolePolicy",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecr:GetAuthorizationToken","ecr:BatchCheckLayerAvailability","ecr:GetDownloadUrlForLayer","ecr:BatchGetImage","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}"#,
    },
    Managed {
        path: "/",
        name: "AmazonEC2ContainerRegistryReadOnly",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecr:GetAuthorizationToken","ecr:BatchCheckLayerAvailability","ecr:GetDownloadUrlForLayer","ecr:GetRepositoryPolicy","ecr:DescribeRepositories","ecr:ListImages","ecr:DescribeImages","ecr:BatchGetImage","ecr:GetLifecyclePolicy","ecr:GetLifecyclePolicyPreview","ecr:ListTagsForResource","ecr:DescribeImageScanFindings"],"Resource":"*"}]}"#,
    },
    Managed {
        path: "/",
        name: "CloudWatchLogsFullAccess",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["logs:*","cloudwatch:GenerateQuery"],"Resource":"*"}]}"#,
    },
];
